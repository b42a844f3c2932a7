"""Prose: sentences, titles, quotes and lists, as the storyteller's texts need them."""

import hashlib
import itertools
import json
import random
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

from penstock.models.offline.storyteller import book

_T = TypeVar("_T")


#: Characters of a premise that are looked at; a longer one is quoted by its first sentence.
PREMISE_CHARS = 600
QUOTE_CHARS = 140

PRONOUNS = {
    "she": ("she", "her", "her", "herself", "she was"),
    "he": ("he", "him", "his", "himself", "he was"),
    "it": ("it", "it", "its", "itself", "it was"),
    "they": ("they", "them", "their", "themselves", "they were"),
}


# --- Words -----------------------------------------------------------------------------------

#: Control characters, marks that turn the direction of writing, and halves of a pair: none of
#: them can be seen, and the last cannot be stored. Joiners stay, because emoji need them.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SENTENCE = re.compile(r".+?(?:[.!?…]+[\"')]*(?=\s|$)|[\u3002\uff01\uff1f]|$)", re.DOTALL)
_CHOICE = re.compile(r"\[([^\]]*)\]")
QUOTE_NAMES = ("text", "prose", "critique", "summary", "story", "plot", "final")


def text_of(part: object) -> str:
    """The text of a part, which may be JSON: then the text under a telling name, or the longest."""
    if isinstance(part, Mapping):
        texts = {str(name): value for name, value in part.items() if isinstance(value, str)}
        named = next((texts[name] for name in QUOTE_NAMES if name in texts), None)
        part = named if named is not None else max(texts.values(), key=len, default=None) or part
    if part is None:
        return ""
    said = part if isinstance(part, str) else json.dumps(part, default=str, ensure_ascii=False)
    return UNSEEN.sub("", said)


def content_of(part: object) -> str:
    """What a part says, to be quoted: text as it is, JSON without text as 'name: value'."""
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and not any(isinstance(value, str) for value in part.values()):
        return ", ".join(f"{name}: {text_of(value)}" for name, value in part.items())
    if isinstance(part, Sequence):
        return ", ".join(text_of(one) for one in part)
    return text_of(part)


def clean(text: str) -> str:
    """One line of what can be seen of the first `PREMISE_CHARS` characters."""
    return " ".join(UNSEEN.sub(" ", text[: 2 * PREMISE_CHARS]).split())[:PREMISE_CHARS].strip()


def short(text: str) -> str:
    """`text`, or its beginning, in a form that can stand between quotation marks."""
    said = text.replace('"', "'")
    if len(said) <= QUOTE_CHARS:
        return said
    cut = said[:QUOTE_CHARS]
    return (cut.rsplit(" ", 1)[0] if " " in cut else cut).rstrip(" ,;:-") + "..."


def first_sentence(text: str) -> str:
    found = _SENTENCE.match(text)
    return found[0].strip() if found else ""


def sentences(text: str) -> list[str]:
    found = (sentence.strip() for sentence in _SENTENCE.findall(text))
    return [sentence for sentence in found if sentence]


def title(story: str) -> str:
    """The first line of a story when it is a title and not its first sentence."""
    first, _, rest = story.strip().partition("\n")
    first = first.strip(" #*")
    return first if rest.strip() and len(first) <= 2 * QUOTE_CHARS and first[-1:] != "." else ""


def body(story: str) -> str:
    return story.strip().partition("\n")[2].strip() if title(story) else story.strip()


def key_words(words: Sequence[str]) -> list[str]:
    """The three words that come up most, the earlier one first among equals."""
    counts: dict[str, int] = {}
    for word in words:
        key = word.strip("\"'.,;:!?()[]{}<>*#-_/").lower()
        if 4 <= len(key) <= 24 and key not in book.SMALL_WORDS:
            counts[key] = counts.get(key, 0) + 1
    return sorted(counts, key=lambda key: -counts[key])[:3]


def dice_of(*of: str) -> random.Random:
    """Dice that fall the same way everywhere for the same texts.

    Only `random()` is asked of them, the one method whose values Python promises to keep.
    """
    digest = hashlib.sha256("\0".join(of).encode("utf-8", "replace")).digest()
    return random.Random(digest)


def pick(dice: random.Random, choices: Sequence[_T]) -> _T:
    return choices[int(dice.random() * len(choices))]


@lru_cache(maxsize=128)
def _cut(template: str) -> tuple[tuple[str, ...], ...]:
    """The pieces of a template, each a tuple of what may stand there."""
    unwrapped = (
        re.sub(r"(?<!\n)\n(?!\n)", " ", template.strip()) if template[:1] == "\n" else template
    )
    pieces = _CHOICE.split(unwrapped)
    return tuple(tuple(piece.split("|")) if at % 2 else (piece,) for at, piece in enumerate(pieces))


def render(template: str, dice: random.Random, slots: Mapping[str, str]) -> str:
    # One pass of format_map over our own text: what a user wrote is a value and is not parsed.
    chosen = (pick(dice, piece) if len(piece) > 1 else piece[0] for piece in _cut(template))
    return "".join(chosen).format_map(slots)


def every(template: str, slots: Mapping[str, str]) -> list[str]:
    """Each text that `render` could have made."""
    return ["".join(chosen).format_map(slots) for chosen in itertools.product(*_cut(template))]


def bare(word: str) -> str:
    return word.strip('.,;:!?"()')


def upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def titled(text: str) -> str:
    small = ("a", "an", "the", "of", "and", "in", "but")
    words = text.split()
    return " ".join(
        word if at and word.lower() in small else upper(word) for at, word in enumerate(words)
    )


def mine(phrase: str) -> str:
    """What the hero says for `his own shadow`: my own shadow."""
    phrase = re.sub(r"\b(?:his|her|its|their)\b", "my", phrase)
    return re.sub(r"\b(?:him|her|it|them)sel(?:f|ves)\b", "myself", phrase)


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
