"""Plots about something that is lost, sent or broken."""

from penstock.models.offline.storyteller.book.arcs import Arc

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
