"""Replies: a few plain lines about any text, for a card that is not about a story or the mesh."""

import collections

from penstock.models.offline import prose
from penstock.models.offline.data import load


def reply(instructions: str, text: str, seed: str) -> str:
    """Return lines about `text`, in its own words.

    They quote, count and list; they do not claim to have done what the instructions ask.
    """
    said, words = load("replies"), prose.UNSEEN.sub(" ", text).split()
    if not words:
        return str(said["nothing"])
    # The three words that come up most, the earlier one first among equals.
    bare = [word.strip("\"'.,;:!?()[]{}<>*#-_/").lower() for word in words]
    counts = collections.Counter(word for word in bare if 4 <= len(word) <= 24)
    small = said["small"].split()
    keys = [word for word, _ in counts.most_common() if word not in small][:3]
    slots = prose.Slots(quote=prose.quoted(text), task=prose.quoted(instructions))
    slots |= {"words": prose.count(len(words), "word"), "keys": prose.listed(keys)}
    lines = [
        "quote",
        "keys" if keys else "given",
        *(["task"] if instructions.strip() else []),
        "end",
    ]
    dice = prose.dice_of("reply", seed, text[: prose.PREMISE_CHARS])
    return "\n".join(prose.render(said[line], dice, slots) for line in lines)
