"""Prose: templates, sentences, titles, quotes and lists, as the offline model's texts need them.

A template has two marks: `{slot}` is filled, and `[one|another]` is a choice that the dice make.
"""

import hashlib
import itertools
import json
import random
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

from penstock.models.offline.data import load

_T = TypeVar("_T")

#: Characters of a premise that are looked at; a longer one is quoted by its first sentence.
PREMISE_CHARS = 600
QUOTE_CHARS = 140

#: Control characters, marks that turn the direction of writing, and halves of a pair: none of
#: them can be seen, and the last cannot be stored. Joiners stay, because emoji need them.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SENTENCE = re.compile(r".+?(?:[.!?…]+[\"')]*(?=\s|$)|[\u3002\uff01\uff1f]|$)", re.DOTALL)


class Slots(dict[str, str]):
    """What templates are filled with; `{Hero}` is `{hero}` with a capital letter."""

    def __missing__(self, name: str) -> str:
        return upper(self[lower(name)])


def dice_of(*of: str) -> random.Random:
    """Return dice that fall the same way everywhere for the same texts.

    Only `random()` is asked of them, the one method whose values Python promises to keep.
    """
    return random.Random(hashlib.sha256("\0".join(of).encode("utf-8", "replace")).digest())


def pick(dice: random.Random, choices: Sequence[_T]) -> _T:
    return choices[int(dice.random() * len(choices))]


@lru_cache(maxsize=256)
def _cut(template: str) -> list[list[str]]:
    """The pieces of a template, each a list of what may stand there; its line ends are spaces."""
    pieces = re.split(r"\[([^\]]*)\]", re.sub(r"(?<!\n)\n(?!\n)", " ", template))
    return [piece.split("|") if at % 2 else [piece] for at, piece in enumerate(pieces)]


def render(template: str, dice: random.Random, slots: Slots) -> str:
    # One pass of format_map over our own text: what a user wrote is a value and is not parsed.
    chosen = (pick(dice, piece) if len(piece) > 1 else piece[0] for piece in _cut(template))
    return "".join(chosen).format_map(slots)


def every(template: str, slots: Slots) -> list[str]:
    """Return each text that `render` could have made."""
    return ["".join(chosen).format_map(slots) for chosen in itertools.product(*_cut(template))]


def text_of(part: object) -> str:
    """Return what a part says: of JSON the text under a telling name, the longest one, or all."""
    if isinstance(part, Mapping):
        texts = {name: text for name, text in part.items() if isinstance(text, str)}
        if not texts:
            return ", ".join(f"{name}: {text_of(value)}" for name, value in part.items())
        named = [texts[name] for name in load("schemas")["text"] if name in texts]
        part = named[0] if named else max(texts.values(), key=len)
    if isinstance(part, list | tuple):
        return ", ".join(map(text_of, part))
    said = part if isinstance(part, str) else "" if part is None else json.dumps(part, default=str)
    return UNSEEN.sub("", said)


def clean(text: str) -> str:
    """Return one line of what can be seen of the first `PREMISE_CHARS` characters."""
    return " ".join(UNSEEN.sub(" ", text[: 2 * PREMISE_CHARS]).split())[:PREMISE_CHARS].strip()


def short(text: str) -> str:
    """Return `text`, or its beginning, in a form that can stand between quotation marks."""
    said = text.replace('"', "'")
    if len(said) <= QUOTE_CHARS:
        return said
    cut = said[:QUOTE_CHARS]
    return (cut.rsplit(" ", 1)[0] if " " in cut else cut).rstrip(" ,;:-") + "..."


def quoted(text: str) -> str:
    """Return the first sentence of `text` between quotation marks, as the end of a sentence."""
    said = short(first_sentence(clean(text)))
    return f'"{said}"' + "." * (not said.endswith((".", "!", "?", "…")))


def sentences(text: str) -> list[str]:
    return [said for sentence in _SENTENCE.findall(text) if (said := sentence.strip())]


def first_sentence(text: str) -> str:
    found = _SENTENCE.match(text)
    return found[0].strip() if found else ""


def title(story: str) -> str:
    """Return the first line of a story when it is a title and not its first sentence."""
    first, _, rest = story.strip().partition("\n")
    first = first.strip(" #*")
    return first if rest.strip() and len(first) <= 2 * QUOTE_CHARS and first[-1:] != "." else ""


def body(story: str) -> str:
    return story.strip().partition("\n")[2].strip() if title(story) else story.strip()


def bare(word: str) -> str:
    return word.strip('.,;:!?"()')


def upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def titled(text: str) -> str:
    small = ("a", "an", "the", "of", "and", "in", "but")
    words = enumerate(text.split())
    return " ".join(word if at and word.lower() in small else upper(word) for at, word in words)


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
