"""What a plot and a place are made of, and the passages that all stories share.

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
