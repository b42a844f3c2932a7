"""Plots about what somebody is afraid of, wishes for or cannot say."""

from penstock.models.offline.storyteller.book.arcs import Arc

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
