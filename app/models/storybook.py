"""The offline storyteller's material: plots, people, places and the words it knows.

Templates have two marks. `{slot}` is filled from the outline of the run; `[one|another]` is a
choice that the run's own dice make. A pair (plain, better) is a passage that the draft writes
plainly, the critic complains about and the final version replaces.
"""

from dataclasses import dataclass


def words(text: str) -> frozenset[str]:
    """The words of `text`, to look others up in."""
    return frozenset(text.split())


@dataclass(frozen=True, slots=True)
class Place:
    """Where a story happens; `coast` places also have a bay for those who live in the sea."""

    name: str
    about: str
    people: str
    sense: str
    at: str = "in"
    coast: bool = False


@dataclass(frozen=True, slots=True)
class Arc:
    """One plot: its outline, its middle, and the passages that a revision replaces.

    `marks` are words, in lower case, that tell this plot from the others. `body` has the slots
    `{advice}` and `{close}` where the draft puts `advice[0]` and `close[0]`.
    """

    marks: tuple[str, ...]
    title: str
    wish: str
    trouble: str
    turn: str
    ending: str
    praised: str
    opening: str
    body: str
    advice: tuple[str, str]
    close: tuple[str, str]


#: The first passage of every draft; an arc's `opening` is the better one.
PLAIN_OPENING = (
    "[Once upon a time there was|There was once|Long ago, or perhaps last week, there was]"
    " {intro}. {His} home was {at}."
)
#: The same for one of whom there is only one: the moon, the smallest of three robots.
PLAIN_OPENING_THE = (
    "[This story is about|Here is a story about|This story belongs to] {intro}. {His} home was"
    " {at}."
)
#: What a draft says about its place; a place's `sense` is the better one.
PLAIN_SENSE = "[It was a pleasant place to live.|It was a good place, as places go.]"
LEGEND = (
    "There is [a picture|a small drawing] of {him} in the oldest book for miles around,"
    ' and under it somebody has written: "{legend}".'
)
HELP = (
    "[Then along came|That was when {hero} met|As luck would have it, who should come by but]"
    " {helper}."
)
#: What a critic says of a story of ours, by the passage that is meant.
DULL = {
    "opening": 'The opening, "{first}", could begin any story. [Start where something has already'
    " gone wrong.|Let us in at the moment when the trouble starts.]",
    "place": "We are told that {place} is a good place, and no more. [Let us hear it and smell"
    " it.|It needs a sound and a smell.]",
    "advice": "What {friend} says is only reported. [That is a scene, and it wants dialogue.|Let us"
    " have it as dialogue.]",
    "close": 'The last line, "{last}", sums up. [An ending needs a picture to go home with.|The'
    " ending should leave us something to look at.]",
}
#: What a critic says of any other story.
DULL_ELSEWHERE = {
    "opening": DULL["opening"],
    "place": "The setting is still pale. [Let us hear it and smell it.|It needs a sound.]",
    "advice": "[Somebody should speak up.|There is room for a voice.] A line of dialogue, said"
    " aloud, would bring the middle closer.",
    "close": 'The last line is: "{last}" [Is that an ending, or only the place where it stops?'
    "|As an ending it could take one more breath.]",
}
VERDICTS = (
    "None of this is a large change. Keep the middle as it is, and it will read aloud well.",
    "The plot holds, and so does the tone. With these changes it is ready.",
    "Nothing needs to be cut. Just this, and then bedtime.",
)
#: What a plot says about its helper, after who it is.
HELPS = (
    "{FHe} has one good question, and leaves the rest to {hero}.",
    "{FHe} gives no answers, only a better way of asking.",
    "{FHe} has time to listen, which turns out to be what was missing.",
)
#: Added by a revision to a story that is not one of ours, in which nothing can be replaced.
NO_ENDING = (
    "That night the lamps burned a little longer than usual, because nobody wanted to be the"
    " first to say that the story was over."
)

BELL = Arc(
    marks=("evening bell", "nest", "hum"),
    title="{Title} and the [Silent Bell|Bell That Waited|Four Speckled Eggs]",
    wish="To hear the evening bell again, because without it nobody knows when the day is done.",
    trouble=(
        "The bell has fallen silent. Everybody has a theory, nobody goes to look, and the "
        "quarrel about whose fault it is gets louder every day."
    ),
    turn=(
        "There is a wren's nest inside the bell. A single stroke would break the eggs, so the "
        "ringer has kept quiet in both senses of the word."
    ),
    ending=(
        "{Hero} begins to hum, and everybody hums the evening in, softly, until the eggs have "
        "hatched."
    ),
    praised="the nest inside the bell",
    opening="Six o'clock came, and there was no bell. That was strange, because {at}, the evening"
    " bell had never once been late. Most people shrugged. {Intro} did not.",
    body="""
The evening bell was how everybody knew that the day was done. [At the sound of it, shutters came
down and soup was put on to warm.|When it rang, tools were put away and children were called in.]
Then, one Monday, it did not ring. On Tuesday it did not ring either.

{People} had plenty to say about it. Some said that the rope had broken. Some said that the bell was
[sulking|getting old|tired of Mondays]. They argued about whose job it was to mend it, and in all
that talk nobody went to look. {Hero} could not stop thinking about it. More than anything, {he}
wanted to hear that bell again.

{help} {advice}

It was time to stop guessing. {seen} a nest no bigger than a teacup, tucked up inside the bell. In
the nest sat a wren, and under the wren lay four speckled eggs. Beside it sat the bell ringer, with
one finger to his lips.

"One stroke would shake them to bits," he whispered. "I did not dare tell anyone. They would all
have been so cross with me."

{Hero} thought of the eggs, and then {he} thought of everybody waiting. And then {he} had an idea,
[so simple that {he} laughed out loud, though softly|and it was a very small one, as good ideas
often are]. That evening, at six o'clock exactly, {hero} began to hum: one long low note, just like
the bell's. {Friend} joined in. Then the ringer did, and then one neighbour after another, until the
whole place was humming the day to its end.

They did the same the next evening, and the next, for three whole weeks. On the twenty-second
evening there were four new voices in the humming, very high and rather out of tune. {close}
""",
    advice=(
        "{Hero} asked what to do about the bell, and {friend} said that it might be a good idea to"
        " find out the reason first.",
        '"The bell is broken," said {hero}.\n\n"Is it?" said {friend}. "A thing can be silent'
        ' because it is broken, or because it is being careful. Which is it?"\n\n"I don\'t know,"'
        ' said {hero}.\n\n"Good," said {friend}. "Then you are the first one here who has begun."',
    ),
    close=(
        "Then the bell could ring again, and everybody was happy.",
        "\n\nA week later the nest was empty, and the bell rang. It was as fine as ever. But when"
        " the last stroke had faded, people stayed a moment longer at their doors, and all"
        " through the dusk you could hear them: humming, just to be sure.",
    ),
)

PARCEL = Arc(
    marks=("parcel", "every door", "tablecloth"),
    title="{Title} and the [Parcel for Nobody|Very Long Tablecloth|Last Door]",
    wish=("To bring a lost parcel to the one it was meant for, however far that is."),
    trouble=(
        "The name has been rubbed off the label, and at each door the answer is the same: not "
        "mine, but I wish it were."
    ),
    turn=(
        "At the last door of all, where nobody lives, the rest of the label is found under a "
        "fold of the paper: it is for everyone."
    ),
    ending=(
        "The parcel holds a tablecloth long enough for everybody, and that evening they all sit "
        "down at it."
    ),
    praised="the man who has had no parcel for eleven years",
    opening="The parcel had come a very long way, and somewhere on the road it had lost its name."
    " It came to rest {at}, and there it was found by {intro}.",
    body="""
The parcel came on a [Thursday|Friday]. It was square and heavy and done up in blue paper, and the
name had been rubbed off the label. All that could still be read was the word "For".

"I shall find out whose it is," said {hero}, and off {he} went with it, from door to door. "Not
mine," said the baker, "though I have been hoping for something." "Not mine," said [the twins, both
at once|the lady with the cello], "but how lovely it looks!" "Not mine," said an old sailor. "Nobody
has sent me a parcel for eleven years." By noon {hero} had been nearly everywhere, and the parcel
had grown heavier at every step.

{help} {advice}

There was one door left, at the far end of everything. {seen} a plain green door. Nobody had lived
behind it for years. But the light was good there. {Hero} turned the parcel over once more, and
under a fold of the paper {he} found the rest of the label. It did not give a name at all. It said:
"For everyone, from the one who carries me to every door."

So {hero} undid the string. Inside was a tablecloth, folded very small. {He} shook it out, and it
went on, and on, and on: there was enough of it for [a whole street|a hundred guests].

That evening people carried out their tables and pushed them end to end, and the cloth covered every
one. The baker brought seven kinds of bread. The old sailor brought eleven years of stories, and
told them all. {close}
""",
    advice=(
        "{Hero} explained the trouble, and {friend} told {him} to think about what {he} had heard.",
        '"Whose is it?" asked {friend}.\n\n"Nobody\'s," said {hero}.\n\n"Nobody\'s at all?"\n\n'
        '"Well," said {hero} slowly, "everybody wished that it was theirs."\n\n"Ah," said {friend}.'
        ' "Then you have been asking the wrong question all day, and getting the right answer."',
    ),
    close=(
        "It was a very nice supper and everyone was glad.",
        "\n\nWhen the lamps were lit, {friend} asked {hero} where {he} would like to sit. {Hero}"
        " looked along the table, at all the people who had been waiting for a parcel, and could"
        " not choose. So {he} took the nearest place, and it was the right one.",
    ),
)

SPOONS = Arc(
    marks=("teaspoons", "jackdaw"),
    title="{Title} and the [Missing Teaspoons|Teaspoon Thief|Week Without Spoons]",
    wish=("To see the neighbours on good terms again, spoons or no spoons."),
    trouble=(
        "Teaspoons vanish, more of them every night. Drawers are locked, and people who were "
        "friends begin to suspect one another."
    ),
    turn=(
        "The thief is a young jackdaw. It has hung the spoons up to tinkle, because its tree is "
        "gone and it cannot sleep without a sound."
    ),
    ending=(
        "Nobody scolds. Everybody gives what they can spare, and the jackdaw gets a chime of "
        "its own."
    ),
    praised="the young jackdaw with its rows of spoons",
    opening="The first spoon went on a Monday, and nobody said a word. By Sunday, {at}, nobody"
    " talked about anything else, except for {intro}, who was thinking.",
    body="""
It began with the teaspoons. On Monday one was missing, on Tuesday seven, and by the end of the week
people were stirring their tea with [pencils|forks|the handles of their toothbrushes].

{People} locked their kitchen drawers and looked sideways at their neighbours. "Somebody here is a
thief," they said, and they did not say it quietly. [Two old friends stopped playing chess.|Nobody
said good morning any more.] {Hero} minded the sideways looks far more than the spoons. More than
anything, {he} wanted everybody to be on good terms again.

{help} {advice}

That night {hero} kept watch. The moon came up. Somewhere, very faintly, something tinkled. {seen} a
young jackdaw, hardly more than a ball of fluff, hanging up the last of the teaspoons by a thread.
All the others hung round about it, row upon row, turning in the moonlight.

"I am sorry," said the jackdaw in a small voice. "The old willow used to rustle me to sleep, and
then the storm took it. I only wanted something that would make a noise at night."

{Hero} did not scold. In the morning {he} told everybody what {he} had learned, and for a while
nobody spoke. Then the baker went indoors and came out with the only spoon he had left. "It can have
mine," he said, and blew his nose.

After that they all came. People took home the spoons they needed, and gave up the ones they could
spare: the bent, the odd, the ugly. Somebody brought [sleigh bells|a cracked glass], and somebody
else a key that fitted nothing, and by evening there hung a wind chime as tall as a door. {close}
""",
    advice=(
        "{Friend} said that it was better to wait and watch than to blame people, and that"
        " seemed sensible.",
        '"Who would want so many spoons?" said {hero}.\n\n"You are holding it by the wrong end,"'
        ' said {friend}. "What does a spoon do, besides stir?"\n\n{Hero} thought about it. "It'
        ' shines," {he} said. "It tinkles."\n\n"Well, then," said {friend}. "Wait until dark, and'
        ' listen."',
    ),
    close=(
        "So the jackdaw slept well, and people were friends again.",
        "\n\nThat night the wind got up, and everything that could ring rang, very softly. The"
        " jackdaw put its head under its wing and was asleep by the second breath. And people who"
        " had not spoken for a week sat on one another's steps until late, drinking tea, and"
        " stirring it quite contentedly with whatever came to hand.",
    ),
)

FOG = Arc(
    marks=("fog", "mrs pell", "lamp"),
    title="{Title} and the [Long Fog|String of Lights|Lamp in the Last Window]",
    wish="To do something, however small, for neighbours who cannot find one another.",
    trouble=(
        "A fog has come down and will not go. Everybody is safe indoors, and everybody is "
        "alone, old Mrs Pell most of all."
    ),
    turn=(
        "A fog cannot be pushed away, but from each window the next one can just be seen, and "
        "that is enough for a lamp to be of use."
    ),
    ending=(
        "Lamp by lamp a string of lights is made, all the way to the last little house, and "
        "people come out to meet."
    ),
    praised="the hopeful face beside the kettle in the last window",
    opening="One morning the world was gone. {At}, every roof and gate had been rubbed out, as if"
    " by a great grey thumb, and somewhere in the middle of the nothing was {intro}, wondering"
    " what to do.",
    body="""
The fog had come in the night, [as thick as porridge|as soft and grey as an old blanket], and it
stayed. It stayed on Friday. It stayed on Saturday, when there should have been a market.

{People} kept indoors. That was the trouble with it: everybody was safe, and everybody was alone.
The baker's rolls went hard on the shelf. [The twins had nobody to quarrel with but each other.|The
band had to practise one at a time.] Old Mrs Pell, at the far end, had only her kettle to talk to.
{Hero} wanted to do something about it, but what can you do to a fog?

{help} {advice}

So they began with one lamp. {Hero} asked the nearest neighbour to put a light in the window. From
that window you could just make out the next one, so the next one put out a light as well, and so
did the one after that. Only the far end stayed dark. {seen} the last little house of all, with
nothing in its window but a kettle and a hopeful face.

"I would have put out a lamp," said Mrs Pell, "but I lent mine to somebody in the spring, and I have
forgotten who."

Nobody remembered, either, so everybody sent one. The lamps came from hand to hand, the whole length
of the fog, and when they were lit there was a string of small gold lights from one end to the
other. People came out. They walked from light to light and called to one another, and the baker's
rolls went round, and nobody said that they were hard. {close}
""",
    advice=(
        "{Hero} asked how to make the fog go away, and {friend} said that it could not be done,"
        " but that perhaps something smaller could.",
        '"How do you get rid of a fog?" asked {hero}.\n\n"You don\'t," said {friend}. "It goes when'
        ' it has finished."\n\n"Then there is nothing to be done."\n\n"I did not say that. How far'
        ' can you see?"\n\n"Only as far as you," said {hero}.\n\n"And I can see only as far as the'
        ' next window," said {friend}. "Whoever lives there can see a little further."\n\n{Hero}'
        " began to smile.",
    ),
    close=(
        "A few days later the fog went away, and it was fine again.",
        "\n\nWhen the fog lifted at last, it was a long time before anybody noticed. They were all"
        " at the far end, in and around a kitchen that was much too small for them, where Mrs Pell"
        " was telling them about the fog of her girlhood, which had been worse. And {hero}, the"
        " first to begin, was the last to say good night.",
    ),
)

FEAR = Arc(
    marks=("afraid", "posy", "count"),
    title="{Title} and the [Count of Ten|Secret|Long Way to Seven]",
    wish="To be rid of a secret: {hero} is afraid of {fear}, and has told nobody.",
    trouble=(
        "Little Posy has not come home. Somebody must help, and to help her {hero} will have to "
        "face {fear}, with everybody looking on."
    ),
    turn=(
        "Said aloud for the first time, the secret is only half as heavy, and a fear can be "
        "counted through, from one to ten."
    ),
    ending=(
        "Posy is found, and she was frightened too. The fear is still there, but it has company "
        "now."
    ),
    praised="the counting, and most of all the seven",
    opening="There are things that you tell nobody, and {intro} had one of them. For years it had"
    " been kept, as you keep a stone in a shoe. {Hero}'s home was {at}.",
    body="""
There was only one thing wrong, and it was a secret: {hero} was afraid of {fear}. {He} had never
told a soul. Whenever the talk came round to it, {hero} found a reason to think of something else.
{He_was} busy. {He_was} tired. {He} had something in {his} eye.

Then came an evening when no reason would do. Little Posy, the ferryman's youngest, had not come
home to supper. [People called her name until they were hoarse.|Her boots were gone from the step,
and so was the dog's old blanket.] {Hero} knew at once what it meant. Somebody had to help her, and
to help her {he} would have to face {fear}. [There was nobody else to ask. There so seldom is.|{He}
looked round for somebody braver, and saw only people who were looking round.]

{help} {advice}

So {hero} counted. At one, everything in {him} was thumping. At three {he} wanted very much to stop.
At five {he} noticed that {he} had shut {his} eyes, and opened them. At seven came the surprise:
from so close, the fear was smaller than it had ever been from far away. At ten {he} began.

{seen} little Posy, sitting on a stone with one boot on and one boot off, not hurt at all, only
waiting for somebody to come.

"Were you frightened?" she asked.

"Yes," said {hero}. "The whole time."

"So was I," said Posy, and she thought it over. "It is better with two." {close}
""",
    advice=(
        "{Friend} said that everyone is afraid of something, and that it can help to count to ten,"
        " and {hero} felt a little better.",
        '"I am afraid of {my_fear}," said {hero}. The words had never been said aloud'
        ' before.\n\n"Thank you for telling me," said {friend}. "I am afraid of doorbells."\n\n"Of'
        ' doorbells?"\n\n"They are so sudden," said {friend}.\n\n"And what do you do about it?"\n\n'
        '"I count to ten. It does not go away. But by ten I have generally started."',
    ),
    close=(
        "Then she was taken home, and {hero} was not so afraid after that.",
        "\n\nThey had soup at midnight, with the whole street looking on. The fear did not go away"
        " all at once; fears seldom do. But from that night on, whenever it came, {hero} counted,"
        " and {he} never got past seven without hearing a small voice say that it is better with"
        " two.",
    ),
)

WISH = Arc(
    marks=("smallest bit", "tomorrow", "lanterns"),
    title="{Title} and the [Smallest Bit|Evening of the Lanterns|Wish That Tugged]",
    wish=("More than anything, {hero} wants to {do}, and the wish will not lie still."),
    trouble=(
        "The first three tries go wrong, and people laugh. It seems wiser to be sensible and to "
        "want something else."
    ),
    turn=(
        "Nobody has to do all of it at once: the smallest bit is enough to begin with, and "
        "tomorrow there is another."
    ),
    ending=(
        "On the evening of the lanterns, when the wind blows out every light, it is {hero} who "
        "is ready."
    ),
    praised="the wind that puts out every lantern at once",
    opening="Some wishes sit quietly and wait. The one that belonged to {intro} did nothing of the"
    " kind: it tugged all day long, like a kite. {Hero}'s home was {at}.",
    body="""
{Hero} had a wish, and it would not lie still. More than anything, {he} wanted to {do}.

The first try went wrong, and two people laughed. The second went wrong more quietly. After the
third, {hero} decided that {he} had better [think of something else to want|leave it to others, and
be sensible]. But a wish is not so easily put down. In the morning it was back, as fresh as ever.

{help} {advice}

So {hero} did the smallest bit every day, when nobody was looking. Some days it was better, and some
days it was worse. {Friend} came by each evening and never once said well done. {FHe} only said,
"Again tomorrow?" And each time the bit was a little less small.

Then it was the evening of the lanterns, when all {people} came together and every light was hung up
high. [The band was just about to begin.|Somebody was just about to make a speech.] And a wind came
round the corner and blew out the lanterns, all of them, every one. In the dark the little ones
began to cry, and the big ones stood there, waiting for somebody to do something.

{Hero} thought of {his} smallest bit. It was ready. So was the bit after that. Before there was time
to be shy, {he} had begun, and that is how {hero}, in front of everybody, came to {do}.

It was not perfect. It wobbled in the middle. But it was all {hero}'s own, from beginning to end,
and one of the little ones stopped crying to see how it would go on, and then all of them did.
{close}
""",
    advice=(
        "{Friend} explained that it is best to begin with the smallest bit of a thing.",
        '"I can\'t do it," said {hero}.\n\n"Not even a little?" said {friend}.\n\n"A little does'
        ' not count."\n\n"It is the only thing that ever counted. Show me the smallest bit that you'
        ' can do. No, smaller. There!" said {friend}. "Now do that again tomorrow."',
    ),
    close=(
        "Everyone clapped, and {hero} was very pleased.",
        "\n\nAfterwards the lanterns were lit again, and the little ones were carried off to bed."
        ' "Well," said {friend}, and {hero} waited to hear whether it would be well done.\n\n"Again'
        ' tomorrow?" said {friend}.\n\nAnd {hero}, who had never been so tired or so happy, said,'
        ' "Again tomorrow."',
    ),
)

WORDS = Arc(
    marks=("slip of paper", "forty pages"),
    title="[The Slip of Paper|Forty Pages and a Piece of String|{Title} and the Next Line]",
    wish="To find out what a slip of paper means. {note}",
    trouble=(
        "Everybody explains it in another way, they are all very sure, and nobody knows who has "
        "lost it."
    ),
    turn="It is not an answer at all: it is a beginning, and somebody has to write what follows.",
    ending="It goes from hand to hand until it has forty pages. Then its owner puts up his hand.",
    praised="the schoolteacher who corrects a comma and then adds a dragon",
    opening="A small thing can come on any wind. This one was only a slip of paper, and out of"
    " everyone {at}, it chose {intro}.",
    body="""
One [windy|bright cold] morning {hero} found a slip of paper caught in the hedge. {note} {He} turned
it over. There was nothing on the other side.

{He} showed it to the baker, who took it for a recipe. {He} showed it to the schoolteacher, who took
it for a riddle, and to an old sea captain, who took it for a code and was rather hurt when it was
not. [Nobody knew what it meant.|They all sounded very sure.] Nobody knew who had lost it, either.
{Hero} put it under {his} pillow that night and could feel it there, waiting.

{help} {advice}

So {hero} sat down and wrote one line underneath. It took the whole afternoon. Then {he} was stuck,
and passed it to the baker. The baker read what was there and added a storm. The schoolteacher
corrected a comma, and then, after looking over both shoulders, added a dragon. The captain put in a
ship, took it out, and put it in again. Each of them read what the others had made and wrote what
came next, and by the end of the week it was forty pages, tied together with string.

It had a fine beginning and several middles. What it did not have was an end. {People} looked at one
another. Then, right at the back, a very small boy put up his hand.

"That slip of paper was mine," he said. "I lost it. I did not know how to go on."

"Neither did we," said {hero}, and gave him the last page, which was empty. {close}
""",
    advice=(
        "{Friend} read the slip of paper and said that it might be the start of a story.",
        '{Friend} read the slip of paper twice, once with each eye.\n\n"What does it mean?" asked'
        ' {hero}.\n\n"Nothing yet," said {friend}. "It is not an answer. It is a beginning. You can'
        ' tell by the way it leans forward."\n\n"And what comes next?"\n\n"Do you know," said'
        ' {friend}, "I was going to ask you."',
    ),
    close=(
        "So the story was finished, and everyone liked it.",
        "\n\nHe wrote the end of it that night, at a corner of the kitchen table, with his tongue"
        " between his teeth. Then he read all forty pages aloud. When he stopped, nobody spoke for"
        " a moment, and then they all asked at once, as people will: and what happens next?",
    ),
)

ARCS = (BELL, PARCEL, SPOONS, FOG, FEAR, WISH, WORDS)

PLACES = (
    Place(
        "Saltmarsh", "a harbour town with more stairs than streets", "The harbour folk",
        "Ropes tapped against the masts, gulls argued over the crusts, and the whole of it smelled"
        " of tar and warm bread.", coast=True,
    ),
    Place(
        "Whistle Point", "where the land runs out and the wind begins", "The people of the Point",
        "The wind played on the fence wires like a beginner on the fiddle, and tasted of salt.",
        at="at", coast=True,
    ),
    Place(
        "Thistledown", "a village at the end of a very long lane", "The villagers",
        "Bees hummed in the lavender, the pump dripped into its bucket, and somebody was always"
        " frying onions.",
    ),
    Place(
        "Upper Puddle", "where it rains on Tuesdays and nobody minds", "The people of Upper Puddle",
        "Rain ticked in the gutters, boots squeaked on the stones, and every kitchen window"
        " breathed out the smell of ginger cake.",
    ),
    Place(
        "Copper Hill", "a small town with a workshop in every yard", "The people of Copper Hill",
        "Hammers rang, saws sang, and curls of new wood blew down the street, smelling of resin.",
    ),
    Place(
        "Lantern Row", "the crookedest street in an old, old city", "The people of Lantern Row",
        "Pigeons muttered under the eaves, and from the cellars came the thump of dough and a smell"
        " of cinnamon.",
    ),
)  # fmt: skip
#: For a place that the premise names, of which nothing else is known.
ELSEWHERE_SENSE = (
    "If you held your breath you could hear the place itself: a creak, a drip, a murmur, and now"
    " and then somebody laughing a long way off."
)
#: Name, what it is, she or he, a habit.
HELPERS = (
    ("Mrs Quill", "an old heron", "she", "who never said anything twice"),
    ("Mr Bramble", "a hedgehog", "he", "who was on his way home from somewhere"),
    ("Aunt Juniper", "a goat", "she", "who had an opinion on most things and ate the rest"),
    ("Old Tobias", "a retired ferryman", "he", "who still stepped over puddles like a captain"),
    ("Grandfather Moss", "a tortoise", "he", "who had been thinking since breakfast"),
    ("Pocket", "a small brown owl", "she", "who was up long past her bedtime"),
    ("Miss Fennimore", "a clockmaker", "she", "who carried three watches and trusted none of them"),
    ("Tuppence", "a one-eared hare", "he", "who had heard everything once already"),
)
#: Heroes for premises that name none: what it is, its name, she or he.
STAND_INS = (
    ("a girl", "Nell", "she"),
    ("a boy", "Otto", "he"),
    ("a mouse", "Pim", "he"),
    ("a young fox", "Juno", "she"),
    ("a girl", "Ottilie", "she"),
    ("a small bear", "Barnaby", "he"),
)
#: What a hero is like who has no trait that we know, and how such a hero gets there.
PLAIN_TRAITS = (
    (
        "{Hero} was a good listener. {He} heard the things that other people hurried past: a loose"
        " shutter, a new bird, a friend who had gone quiet.",
        "{Hero} kept quite still, and listened until {he} knew which way to go.",
    ),
    (
        "{Hero} noticed things. {He} knew which step creaked, which chimney smoked on Sundays, and"
        " which of the neighbours only pretended to like plums.",
        "{Hero} noticed a mark that everybody else had walked past, and followed it.",
    ),
    (
        "{Hero} was never in a hurry. {He} believed that most things are worth looking at twice,"
        " and some of them three times, with the head on one side.",
        "{Hero} did not hurry. {He} went a little at a time, and looked behind everything twice.",
    ),
)
#: The same for heroes who cannot leave their place; somebody else must go for them.
ROOTED_TRAIT = (
    "{Hero} never went anywhere, and did not need to. Sooner or later everything came by: the"
    " weather, the wild geese, the Tuesday post."
)
#: And for heroes of the sea and the sky, who see the place from outside.
OUTSIDE_TRAIT = (
    "From there {hero} could see a great deal: who was early, who was late, and whose washing was"
    " still out in the rain."
)
ROOTED_DEED = (
    "{Hero} could not go {himself}, so {friend} went, and {hero} watched and waited and told"
    " {fhim} where to look."
)
#: The words of a premise that show a trait -> what the hero is like, how the hero gets there.
TRAITS = {
    "flying winged airborne": (
        "{Hero} could fly. {He} did not do it elegantly, and {he} landed mostly in hedges, but once"
        " {he_was} up {he} saw everything: who was home, who was late, and who could do with a"
        " visit.",
        "{Hero} took a deep breath, rose into the air, and flew the last stretch.",
    ),
    "singing musical humming": (
        "{Hero} sang. {He} sang to kettles and to rain, and whenever {he} stopped, things seemed to"
        " be waiting for the next verse.",
        "{Hero} sang three notes, waited for the echo, and followed it.",
    ),
    "dancing": (
        "{Hero} danced wherever {he} went: out on tiptoe, and home again with a twirl at every"
        " corner.",
        "{Hero} went on tiptoe, so lightly that not a board creaked.",
    ),
    "tiny little small smallest mini wee": (
        "{Hero} was so small that people sometimes forgot to look down. {He} did not mind. It is"
        " surprising what you hear about the world from no higher than a doorstep.",
        "{Hero} slipped through a gap that nobody else would have noticed.",
    ),
    "giant huge big enormous gigantic": (
        "{Hero} was so big that doorways had to be thought about in advance. {He} had learned to be"
        " careful: {he} sat down slowly, and laughed facing away from the washing.",
        "{Hero} stretched up as high as {he} could, and looked over the top of everything.",
    ),
    "invisible": (
        "{Hero} could not be seen. It was handy for hide-and-seek and for very little else, and"
        " {he} had got into the way of humming, so that nobody would sit on {him}.",
        "{Hero} crept closer, and of course nobody saw {him} come.",
    ),
    "quiet shy silent timid": (
        "{Hero} was quiet. {He} could get through a whole afternoon without a word, and people told"
        " {him} things that they told nobody else.",
        "{Hero} went so quietly that not even the sparrows looked round.",
    ),
    "brave fearless bold courageous": (
        "Everybody said that {hero} was brave. {He} knew better. {He_was} often frightened and went"
        " anyway, and had never found out what else the word could mean.",
        "{Hero} did not feel brave at all, and went anyway.",
    ),
    "lonely lonesome": (
        "{Hero} was often lonely. {He} knew the sound of everyone who passed, and had a good"
        " morning ready for each of them, though there was seldom time to say it.",
        "{Hero} thought that somebody might be all alone there, and went faster.",
    ),
    "sleepy tired dreamy": (
        "{Hero} was nearly always sleepy. {He} had dozed through two weddings and a thunderstorm,"
        " and did {his} best thinking in the soft moment just before the eyes close.",
        "{Hero} yawned, shook {himself}, and took the quietest way, which only the sleepy know.",
    ),
    "grumpy cross angry grouchy": (
        "{Hero} was known to be grumpy. {He} grumbled at the weather, good or bad, and at"
        " birthdays. But {he} never grumbled at anybody who was sad.",
        "{Hero} grumbled all the way there, but {he} went all the way.",
    ),
    "clumsy wobbly": (
        "{Hero} was clumsy. {He} had fallen over the same bucket so often that by now they were"
        " friends.",
        "{Hero} tripped, rolled over twice, bumped against something, and looked up.",
    ),
    "curious clever smart inventive": (
        "{Hero} wanted to know why, and when that was answered, {he} wanted to know why again. {He}"
        " kept a list of questions that had not been tried on anybody yet.",
        "{Hero} looked round one more corner, because there is always one more.",
    ),
    "magic magical enchanted": (
        "{Hero} was a little bit magic. It was not the kind that wins battles. When {he} laughed,"
        " clocks ran slow, so that good afternoons lasted somewhat longer than they should.",
        "{Hero} laughed once, under {his} breath, and for one slow minute there was time to look"
        " everywhere.",
    ),
    "talking": (
        "{Hero} could talk, and saw no reason to keep it to {himself}. {He} talked to gates and to"
        " puddles, and was always pleased when somebody answered.",
        "{Hero} asked the way of everyone {he} met, and thanked them all.",
    ),
    "forgetful": (
        "{Hero} was forgetful. {He} forgot names, umbrellas, and once the whole of a Wednesday, but"
        " {he} never forgot a kindness.",
        "{Hero} forgot which way {he} had meant to go, went the other way, and was glad of it.",
    ),
    "old ancient elderly": (
        "{Hero} was very old, and had time. {He} remembered winters that nobody else remembered,"
        " and when {he} told of them people pulled their coats closer.",
        "{Hero} went slowly, by a way that only the very old remember.",
    ),
    "blue red green yellow purple pink orange golden silver rainbow striped": (
        "{Hero} was {trait} from top to bottom. Nobody could say why, and after a while nobody"
        " asked; they only agreed that it made {him} easy to find.",
        "{Hero} went straight on, as bright as a flag.",
    ),
    "kind friendly gentle": (
        "{Hero} was kind, and not in a loud way. {He} waited for people who were slow, and"
        " pretended to be admiring the view.",
        "{Hero} thought how it must feel to be the one who waits, and went faster.",
    ),
}
#: What `who can fly` and the like say about a hero.
ABILITIES = {"fly": "flying", "sing": "singing", "dance": "dancing", "talk": "talking"}

#: `dreams of flying` and the like, as something that a hero wants to do.
GERUNDS = {
    f"{stem}ing": verb
    for verb, stem in [
        ("be", "be"), ("become", "becom"), ("climb", "climb"), ("cook", "cook"), ("dance", "danc"),
        ("draw", "draw"), ("drive", "driv"), ("explore", "explor"), ("find", "find"),
        ("fly", "fly"), ("go", "go"), ("grow", "grow"), ("have", "hav"), ("help", "help"),
        ("make", "mak"), ("meet", "meet"), ("open", "open"), ("paint", "paint"), ("play", "play"),
        ("read", "read"), ("ride", "rid"), ("run", "runn"), ("sail", "sail"), ("see", "see"),
        ("sing", "sing"), ("skate", "skat"), ("surf", "surf"), ("swim", "swimm"),
        ("travel", "travell"), ("travel", "travel"), ("visit", "visit"), ("win", "winn"),
        ("write", "writ"),
    ]
}  # fmt: skip

#: Nouns that can be a hero, by how they are spoken of and whether they can go anywhere.
KINDS = {
    noun: sort
    for sort, nouns in {
        "she": "girl princess queen mermaid witch grandmother grandma mother mum mom sister aunt"
        " lady woman fairy hen cow duchess daughter goddess mare",
        "he": "boy prince king wizard grandfather grandpa father dad brother uncle man rooster bull"
        " duke son postman fisherman snowman fireman policeman",
        "they": "child kid baby friend pirate sailor captain knight astronaut doctor teacher nurse"
        " baker farmer gardener painter artist singer dancer chef cook student scientist explorer"
        " inventor musician magician clown ninja detective hero superhero firefighter pilot driver"
        " builder tailor cobbler librarian programmer engineer poet writer shepherd hunter thief"
        " spy twin giant elf gnome goblin troll ogre dwarf ghost vampire zombie alien spirit monk",
        "it": "dog puppy cat kitten mouse rat rabbit bunny hare fox wolf bear cub lion tiger"
        " leopard cheetah panther elephant giraffe zebra hippo hippopotamus rhino monkey ape"
        " gorilla sloth panda koala kangaroo camel llama alpaca horse pony donkey pig piglet"
        " sheep lamb goat chicken chick duck duckling goose gosling swan owl eagle hawk crow"
        " raven robin sparrow parrot penguin puffin pigeon peacock flamingo stork heron"
        " hummingbird bird bat bee bumblebee butterfly caterpillar moth ant beetle ladybug"
        " ladybird spider snail worm slug cricket grasshopper firefly frog toad newt lizard"
        " gecko chameleon snake tortoise hedgehog squirrel chipmunk badger mole beaver otter"
        " raccoon skunk deer moose reindeer hamster gerbil ferret weasel bull dinosaur"
        " dragon unicorn phoenix griffin monster creature yeti robot android machine"
        " computer drone car truck bus tractor train engine bicycle bike plane airplane"
        " aeroplane helicopter rocket spaceship balloon kite toy doll teddy puppet umbrella"
        " shoe sock hat teapot cup spoon pencil crayon book button lantern candle broom"
        " carpet drum violin piano guitar bell raindrop snowflake leaf feather shadow"
        " sandwich pancake cookie cupcake potato carrot pumpkin animal pet calf foal hound"
        " terrier poodle genie imp toaster kettle pebble",
        "rooted": "lighthouse tree oak house cottage castle tower windmill bridge statue clock lamp"
        " streetlamp lamppost flower rose sunflower daisy cactus mushroom scarecrow mountain hill"
        " volcano island forest garden library school well fountain stone rock",
        "sea": "whale dolphin shark fish goldfish octopus squid jellyfish starfish seahorse crab"
        " lobster shrimp clam oyster eel seal walrus turtle ship boat submarine tugboat wave",
        "sky": "star moon sun cloud comet planet rainbow wind storm",
    }.items()
    for noun in nouns.split()
}
GIRLS = words(
    "ada alice amelia amy anna anne astrid beatrice bella chloe clara daisy elena ella ellie emily"
    " emma eva eve fiona freya georgia grace greta hannah heidi ida ines isabel iris isla ivy jane"
    " julia lara laura lena lily lina lisa lottie lucy luna mabel maria marie mary matilda maya mia"
    " mila molly nadia nell nina nora olivia paula penny pippa polly rosa rosie ruby sally sara"
    " sarah sofia sophia sophie stella susan tess tilda tina vera wendy zoe"
)
BOYS = words(
    "adam albert alfie anton arthur ben benny bill billy bob boris carl charlie dan daniel david"
    " eddie edgar emil eric ethan felix finn frank fred freddy george gus hans harry henry hugo"
    " igor ivan jack jacob james jim joe john jonas karl leo leon liam louis lucas luke mark martin"
    " matt max michael mike milo ned nick noah oliver oscar otto paul pete peter ralph rex richard"
    " rob robert rupert sam simon stan steve ted theo thomas tim timmy tobias toby tom tommy victor"
    " walter will willy"
)
#: Words that say nothing about what a text is about.
SMALL_WORDS = words(
    "about above after again also although among another because been before being below between"
    " both came come could does doing down during each even ever every from further going have"
    " having here hers herself himself into itself just like made make many more most much must"
    " never only other ours over said same shall should since some still such than that their"
    " theirs them themselves then there these they thing things this those through under until"
    " upon very want were what when where which while whom will with within without would your"
    " yours yourself"
)
