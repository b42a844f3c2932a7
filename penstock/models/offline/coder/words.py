"""The words that example inputs are made of."""

import random

from penstock.models.offline.coder.kinds import shuffled

WORDS = (
    *("amber", "basket", "candle", "dune", "ember", "falcon", "garden", "harbour", "island"),
    *("jacket", "kettle", "lantern", "meadow", "needle", "orchard", "pebble", "quilt", "river"),
    *("saddle", "timber", "umbrella", "velvet", "willow", "yarn"),
)


def some_words(dice: random.Random, count: int) -> list[str]:
    """`count` words, no two alike."""
    return shuffled(dice, list(WORDS))[:count]
