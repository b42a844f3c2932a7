"""The offline storyteller's material: plots, people, places and the words it knows."""

from penstock.models.offline.storyteller.book.arcs import (
    DULL,
    DULL_ELSEWHERE,
    HELP,
    HELPS,
    LEGEND,
    NO_ENDING,
    PLAIN_OPENING,
    PLAIN_OPENING_THE,
    PLAIN_SENSE,
    VERDICTS,
    Arc,
    Place,
    words,
)
from penstock.models.offline.storyteller.book.feelings import FEAR, FOG, WISH, WORDS
from penstock.models.offline.storyteller.book.people import (
    ABILITIES,
    BOYS,
    GERUNDS,
    GIRLS,
    KINDS,
    SMALL_WORDS,
    TRAITS,
)
from penstock.models.offline.storyteller.book.places import (
    ELSEWHERE_SENSE,
    HELPERS,
    OUTSIDE_TRAIT,
    PLACES,
    PLAIN_TRAITS,
    ROOTED_DEED,
    ROOTED_TRAIT,
    STAND_INS,
)
from penstock.models.offline.storyteller.book.quests import BELL, PARCEL, SPOONS

#: Every plot.
ARCS = (BELL, PARCEL, SPOONS, FOG, FEAR, WISH, WORDS)

__all__ = [
    "ABILITIES",
    "ARCS",
    "BELL",
    "BOYS",
    "DULL",
    "DULL_ELSEWHERE",
    "ELSEWHERE_SENSE",
    "FEAR",
    "FOG",
    "GERUNDS",
    "GIRLS",
    "HELP",
    "HELPERS",
    "HELPS",
    "KINDS",
    "LEGEND",
    "NO_ENDING",
    "OUTSIDE_TRAIT",
    "PARCEL",
    "PLACES",
    "PLAIN_OPENING",
    "PLAIN_OPENING_THE",
    "PLAIN_SENSE",
    "PLAIN_TRAITS",
    "ROOTED_DEED",
    "ROOTED_TRAIT",
    "SMALL_WORDS",
    "SPOONS",
    "STAND_INS",
    "TRAITS",
    "VERDICTS",
    "WISH",
    "WORDS",
    "Arc",
    "Place",
    "words",
]
