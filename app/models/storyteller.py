"""A small storyteller without a model: the same parts and seed always give the same text.

It answers when no real model is configured, so that a pipeline can be read from end to end a
minute after it is installed. Each text is made from the texts before it: the story follows the
plot it is given (an edited plot gives another story), the critique quotes the story, and the
final version changes the story in the places that the critique names.
"""

import hashlib
import itertools
import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

from app.models import storybook as book

_T = TypeVar("_T")

#: The parts that `tell` can make.
KINDS = ("plot", "story", "critique", "final")

#: Characters of a premise that are looked at; a longer one is quoted by its first sentence.
_PREMISE_CHARS = 600
_QUOTE_CHARS = 140

_PRONOUNS = {
    "she": ("she", "her", "her", "herself", "she was"),
    "he": ("he", "him", "his", "himself", "he was"),
    "it": ("it", "it", "its", "itself", "it was"),
    "they": ("they", "them", "their", "themselves", "they were"),
}


def tell(kind: str, parts: Mapping[str, object], seed: str) -> str:
    """The run's next text: `kind` is one of `KINDS`, `parts` what the run has made so far.

    Any text is accepted in any part, a missing one is made up, and nothing in a part is ever
    read as markup. Raises `ValueError` for another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"the storyteller makes {', '.join(KINDS)}; it was asked for {kind!r}")
    texts = {name: _text(parts.get(name)) for name in ("premise", *KINDS)}
    if kind == "plot":
        return _plot(_outline(texts["premise"], "", "", seed), _dice(kind, seed, texts["premise"]))
    if kind == "story":
        outline = _outline(texts["premise"], texts["plot"], "", seed)
        return _story(outline, _dice(kind, seed, texts["plot"], texts["premise"]))
    draft = texts["story"].strip() or tell("story", parts, seed)
    outline = _outline(texts["premise"], texts["plot"], draft, seed)
    if kind == "critique":
        return _critique(draft, outline, _dice(kind, seed, draft))
    return _revision(draft, texts["critique"], outline)


def reply(instructions: str, text: str, seed: str) -> str:
    """A few plain lines about `text`, in its own words, for a card that is not about a story.

    They quote, count and list; they do not claim to have done what the instructions ask.
    """
    words = _UNSEEN.sub(" ", text).split()
    if not words:
        return "This step was given no text, so there is nothing to hand on."
    dice = _dice("reply", seed, text[:_PREMISE_CHARS])
    first = _short(_first_sentence(_clean(text)))
    lines = [f'This step was given {_count(len(words), "word")}. {_pick(dice, _BEGINS)}: "{first}"']
    if keys := _key_words(words):
        lines.append(f"Key words: {_listed(keys)}.")
    if task := _clean(instructions):
        lines.append(f'The card asks: "{_short(_first_sentence(task))}"')
    lines.append(_pick(dice, _ENDS))
    return "\n".join(lines)


_BEGINS = ("The text begins", "Its first words are", "At the start it says")
_ENDS = (
    "Nothing was added to it on the way.",
    "It is passed on here as it came.",
    "A model would take it from here.",
)


# --- Who the story is about ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hero:
    """Whom a premise is about, in the forms that a sentence needs."""

    called: str  # Tim, the lighthouse
    intro: str  # a flying dog called Tim, a lighthouse
    title: str  # Tim the Flying Dog, The Lighthouse
    pronoun: str
    sort: str = ""  # rooted, sea or sky: cannot go and look for itself
    trait: str = ""
    fear: str = ""
    wish: str = ""
    place: str = ""  # on the moon
    friend: str = ""  # a hound
    legend: str = ""  # the premise, when it says more than the story can use


_WORD = re.compile(r"[A-Za-zÀ-ÖØ-öø-ÿ][A-Za-zÀ-ÖØ-öø-ÿ'-]*")
_ARTICLES = book.words("a an the my our his her its their")
#: Where a noun phrase ends when none of its words is a known noun.
_STOPS = _ARTICLES | book.words(
    "who that which whose with without and or but in on at of from to into for about is are was"
    " were has had wants learns loses finds called named afraid scared by looking trying living"
    " wanting learning where when how why what if"
)
#: Words after an unknown noun that show it to be somebody: `a snorkel who...`.
_SOMEBODY = book.words("who called named afraid scared wants learns")
_VERBS = book.words(
    "save feed find catch meet help build write tell make ride stop open close be see hear love"
    " like follow chase around under over into about inside behind through"
)
_JOINS = book.words("and or but")
_COUNTS = book.words("two three four five six seven eight nine ten many some")
_TITLES = book.words(
    "princess prince king queen captain mr mrs ms miss doctor dr sir lady grandma grandpa professor"
    " uncle aunt"
)
_PREFIXES = re.compile(
    r"^(?:(?:please |can you |could you )*(?:write|tell|make|create|give|generate)(?: me| us)?\s+)?"
    r"(?:(?:an?|the) )?(?:[\w'-]+ ){0,3}?(?:story|tale|book|poem|adventures?|legend) (?:about|of) "
    r"|^about |^(?:once (?:upon a time,? )?)?there (?:was|lived) (?:once )?",
    re.IGNORECASE,
)
_FEAR = re.compile(
    r"\b(?:(?:afraid|scared|frightened|terrified) (?:of|by)|fears) (.+)", re.IGNORECASE
)
_WISH = re.compile(
    r"\b(?:learn\w*(?: how)?|want\w*|long\w*|hop(?:es?|ed|ing)|tr(?:ies|ied|ying)|wish\w*|needs?"
    r"|dreams?|has|had|decides?|would (?:love|like)|loves?|likes?) to (.+)"
    r"|\b(?:can ?not|can't|could not|couldn't|can never|cannot) (.+)",
    re.IGNORECASE,
)
_SEEK = re.compile(
    r"\b(?:(?:look|search)\w* for|los(?:es|t)|is missing) ((?:his|her|its|their|the|an?) .+)",
    re.IGNORECASE,
)
_DREAM = re.compile(r"\bdream\w* of (\w+ing)\b(.*)", re.IGNORECASE)
_IS = re.compile(r"\b(?:is|was) (?:\w+ )?(\w+)$", re.IGNORECASE)
_CAN = re.compile(r"\b(?:can|could) (\w+)", re.IGNORECASE)
_PHRASE_END = re.compile(
    r"[,.;:!?()\"]| (?:but|because|so|when|while|until|after|before|and then|with the help|who"
    r"|that|which|even though|although|in order) ",
    re.IGNORECASE,
)
_PLACE = re.compile(
    r"(?:^|.* )((?:in|on|under|inside|beneath|near|above|behind|beyond|at) "
    r"(?:(?:the|an?|his|her|its|their|my|our) )?(?:[\w'-]+ ){0,2}?(?:moon|sea|forest|woods?|city"
    r"|town|village|castle|desert|jungle|space|mountains?|island|farm|ocean|mars|paris|london|rome"
    r"|sky|garden|library|museum|zoo|school|lighthouse|station|pole|arctic|antarctica|river|lake"
    r"|attic|house|bakery|hotel|circus|planet|swamp|cave|harbou?r|beach|market|tower|train))$",
    re.IGNORECASE,
)
_CITY = re.compile(r"(?:^|.* )(in [A-Z][a-z]+)$")
_LIVES = re.compile(r"^(?:(?:who|that) )?(?:lives|living|lived)$")


@lru_cache(maxsize=512)
def _read_premise(premise: str) -> Hero | None:
    """The hero that `premise` names, or nothing when it names none that we can make out."""
    text = re.sub(r"\b(Mr|Mrs|Ms|Dr|St)\.", r"\1", _clean(premise))
    whole = _first_sentence(text).rstrip(" .!?")
    said = _PREFIXES.sub("", whole, count=1).strip()
    if said.isupper():
        said = said.lower()
    words = said.split()
    if not words or len(said) > 3 * _QUOTE_CHARS:
        return None
    hero = (
        _certain(words)
        or _smallest(words)
        or _named(words)
        or _titled_name(words)
        or _noun(words)
        or _name_only(words)
    )
    if hero is None:
        return None
    found, used = hero
    return _with_rest(found, " ".join(words[used:]), _upper(said))


def _certain(words: list[str]) -> tuple[Hero, int] | None:
    """`a certain Winnie the Pooh`: our own way to introduce a name that says no kind."""
    if [word.lower() for word in words[:2]] != ["a", "certain"]:
        return None
    end = next((i for i, word in enumerate(words) if word == "who"), len(words))
    name = " ".join(words[2:end])
    return (_somebody(name.split(" the ")[0], name), end) if name else None


def _smallest(words: list[str]) -> tuple[Hero, int] | None:
    """`three little robots`: a story has one hero, so it is the smallest of them."""
    ours = re.match(r"the small(?:er|est) of ", " ".join(words[:4]).lower())
    start = 3 if ours else 0
    lead = words[start].lower() if start < len(words) else ""
    for at in range(start, min(start + 5, len(words))):
        noun = _bare(words[at]).lower()
        single = _singular(noun)
        if noun in book.KINDS or _bare(words[at]) == "":
            return None
        if single in book.KINDS and (start or at == 0 or lead in _COUNTS or lead == "the"):
            group = " ".join(_bare(word) for word in words[start : at + 1]).lower()
            if lead not in _COUNTS and lead != "the":
                group = "the " + group
            degree = "smaller" if lead == "two" else "smallest"
            called = f"the {degree} {single}"
            sort = book.KINDS[single]
            pronoun = sort if sort in ("she", "he") else "it"
            intro = f"the {degree} of {group}"
            hero = Hero(called, intro, _titled(called), pronoun, _rooted(sort), "smallest")
            return hero, at + 1
    return None


def _named(words: list[str]) -> tuple[Hero, int] | None:
    """`Tim the Flying Dog`, `Winnie the Pooh`."""
    lowered = [word.lower() for word in words]
    if "the" not in lowered[1:4] or lowered[0] in _STOPS | _VERBS | _COUNTS:
        return None
    at = lowered.index("the", 1)
    names = words[:at]
    if not all(_WORD.fullmatch(word) for word in names):
        return None
    if at > 1 and not all(word[0].isupper() for word in names):
        return None
    name = " ".join(word[0].upper() + word[1:] for word in names)
    span = _noun_phrase(words[at + 1 :])
    if span is None:
        rest = words[at + 1 :]
        if len(rest) != 1 or not _WORD.fullmatch(rest[0]) or _singular(lowered[-1]) in book.KINDS:
            return None
        return _somebody(name, f"{name} the {rest[0][0].upper()}{rest[0][1:]}"), len(words)
    kind = _kind(words[at + 1 : at + 1 + span])
    hero = _creature(kind, name)
    return replace(hero, title=f"{name} the {_titled(kind)}"), at + 1 + span


def _noun(words: list[str]) -> tuple[Hero, int] | None:
    """`A lighthouse`, `a quiet robot called Bolt`, `dragon`."""
    lead = words[0].lower()
    start = 1 if lead in _ARTICLES else 0
    span = _noun_phrase(words[start:])
    if span is None or (start == 0 and span > 3):
        return None
    used = start + span
    head = _bare(words[used - 1]).lower()
    if head not in book.KINDS and lead not in ("a", "an"):
        return None
    kind = _kind(words[start:used])
    if _bare(" ".join(words[used : used + 1])).lower() in ("called", "named"):
        end = used + 2
        while end < len(words) and words[end][0].isupper():
            end += 1
        name = " ".join(_bare(word) for word in words[used + 1 : end])
        if name:
            return _creature(kind, name[0].upper() + name[1:]), end
    return _creature(kind, ""), used


def _titled_name(words: list[str]) -> tuple[Hero, int] | None:
    """`Captain Blue and the whale`."""
    if len(words) < 2 or words[0].lower() not in _TITLES or not words[1][0].isupper():
        return None
    name = f"{_upper(words[0])} {_bare(words[1])}"
    return (_somebody(name, name), 2) if _WORD.fullmatch(_bare(words[1])) else None


def _name_only(words: list[str]) -> tuple[Hero, int] | None:
    """`Maya`, `Tom is afraid of spiders`, `Luna, a small star`, `Tim is a flying dog`."""
    name = _upper(_bare(words[0]))
    lowered = [_bare(word).lower() for word in words]
    if not _WORD.fullmatch(name) or lowered[0] in _STOPS | _VERBS:
        return None
    start = 1 + (lowered[1:2] in (["is"], ["was"]))
    if lowered[start : start + 1] in (["a"], ["an"]) and (start > 1 or words[0][-1] == ","):
        span = _noun_phrase(words[start + 1 :])
        if span:
            used = start + 1 + span
            return _creature(_kind(words[start + 1 : used]), name), used
    known = lowered[0] in book.GIRLS or lowered[0] in book.BOYS
    told = words[0][0].isupper() and (lowered[1:2] == ["who"] or _speaks_of(words))
    return (_somebody(name, name), 1) if known or told else None


def _speaks_of(words: list[str]) -> bool:
    rest = " ".join(words[1:])
    return bool(_FEAR.match(rest.removeprefix("is ")) or _WISH.match(rest) or _SEEK.match(rest))


def _noun_phrase(words: Sequence[str]) -> int | None:
    """How many of `words` name a thing that can be a hero."""
    for at, word in enumerate(words[:8]):
        noun = _bare(word).lower()
        if not _WORD.fullmatch(noun) or noun.endswith("'s"):
            return None
        if noun in _JOINS and at and "".join(words[at + 1 : at + 2]).lower() not in _ARTICLES:
            continue
        if noun in book.KINDS:
            while (
                at + 1 < len(words)
                and words[at] == _bare(words[at])
                and _bare(words[at + 1]).lower() in book.KINDS
            ):
                at += 1
            return at + 1
        if noun in _STOPS:
            return at if 1 <= at <= 3 and noun in _SOMEBODY else None
        if word != noun and word[-1] in ",;:":
            return None
    return None


def _kind(words: Sequence[str]) -> str:
    bare = [_bare(word) for word in words]
    typed_as_title = all(word[0].isupper() for word in bare)
    return " ".join(bare).lower() if typed_as_title else " ".join(bare)


def _creature(kind: str, name: str) -> Hero:
    nouns = list(
        itertools.takewhile(lambda word: word.lower() in book.KINDS, reversed(kind.split()[:-1]))
    )
    head = " ".join([*reversed(nouns), kind.split()[-1]])
    sort = book.KINDS.get(kind.split()[-1].lower(), "they")
    pronoun = sort if sort in ("she", "he", "they") else "it"
    first = name.split()[0].lower() if name else ""
    if first in book.GIRLS:
        pronoun = "she"
    elif first in book.BOYS:
        pronoun = "he"
    elif name and pronoun == "it":
        pronoun = "she" if hashlib.sha256(name.encode()).digest()[0] % 2 else "he"
    intro = f"{_article(kind)} {kind}" + (f" called {name}" if name else "")
    trait = next((word for word in kind.lower().split() if word in _TRAITS), "")
    title = name or f"The {_titled(kind)}"
    return Hero(name or f"the {head}", intro, title, pronoun, _rooted(sort), trait)


def _somebody(name: str, whole: str) -> Hero:
    """A hero of whom only the name is known."""
    first = _bare(name.split()[-1]).lower()
    title = _bare(name.split()[0]).lower()
    if first in book.GIRLS or title in ("princess", "queen", "mrs", "ms", "miss", "lady", "aunt"):
        pronoun = "she"
    elif first in book.BOYS or title in ("prince", "king", "mr", "sir", "uncle", "grandpa"):
        pronoun = "he"
    else:
        pronoun = "she" if title == "grandma" else "they"
    if name == whole == name.split()[0] and pronoun in ("she", "he"):
        return _creature("girl" if pronoun == "she" else "boy", name)
    return Hero(name, f"a certain {whole}", whole, pronoun)


def _with_rest(hero: Hero, rest: str, whole: str) -> Hero:
    """`hero` with what the rest of the premise says: a fear, a wish, a place, a companion."""
    if hint := re.search(r"\b(she|her|herself|he|his|him|himself)\b", rest, re.IGNORECASE):
        known = hero.called.split()[0].lower() in book.GIRLS | book.BOYS
        if not known and hero.pronoun in ("it", "they"):
            said = "he" if hint[1].lower() in ("he", "his", "him", "himself") else "she"
            hero = replace(hero, pronoun=said)
    elif hero.pronoun == "they" and re.search(r"\b(?:its|itself)\b", rest):
        hero = replace(hero, pronoun="it")
    elif hero.pronoun == "it" and re.search(r"\b(?:their|themself|themselves)\b", rest):
        hero = replace(hero, pronoun="they")
    if fear := _phrase(_FEAR.search(rest)):
        return replace(hero, fear=fear)
    if wish := _wish(rest):
        return replace(hero, wish=wish)
    if sought := _phrase(_SEEK.search(rest)):
        return replace(hero, wish=f"find {sought}")
    able, being = _CAN.search(rest), _IS.search(rest)
    trait = book.ABILITIES.get(able[1].lower(), "") if able else being[1].lower() if being else ""
    if trait in _TRAITS:
        return replace(hero, trait=trait)
    place = _PLACE.match(rest) or (None if whole.istitle() else _CITY.match(rest))
    if place:
        hero = replace(hero, place=place[1])
        rest = _LIVES.sub("", rest[: place.start(1)].strip())
    if joined := re.match(r"(?:and|meets?|befriends?|helps?) (?=\w)", rest, re.IGNORECASE):
        words = rest[joined.end() :].split()
        found = _noun(words) or _name_only(words)
        if found and not _smallest(words):
            friend, used = found
            hero = replace(hero, friend=friend.intro)
            rest = " ".join(words[used:])
    return replace(hero, legend=_short(whole)) if rest.strip(" .!?,") else hero


_TRAITS = {word: texts for words, texts in book.TRAITS.items() for word in words.split()}


def _rooted(sort: str) -> str:
    return sort if sort in ("rooted", "sea", "sky") else ""


def _article(kind: str) -> str:
    sound = kind.lower()
    first = sound.split()[0]
    if sound in ("moon", "sun") or first in ("last", "only", "first") or first.endswith("est"):
        return "the"
    if re.match(r"uni[cfqtv]|u[ks][eu]|eu|one\b|ubiq|uto", sound):
        return "a"
    return "an" if re.match(r"[aeiouàáâèéêìíîòóôùúû]|hour|honest|heir", sound) else "a"


def _singular(noun: str) -> str:
    irregular = {"mice": "mouse", "geese": "goose", "children": "child", "wolves": "wolf",
                 "elves": "elf", "women": "woman", "men": "man", "leaves": "leaf"}  # fmt: skip
    if noun in irregular:
        return irregular[noun]
    for ending, single in (("ies", "y"), ("es", ""), ("s", "")):
        if noun.endswith(ending) and noun[: -len(ending)] + single in book.KINDS:
            return noun[: -len(ending)] + single
    return ""


def _wish(rest: str) -> str:
    found = _WISH.search(rest)
    if found and re.search(r"(?:n't|not|never) $", rest[: found.start()]):
        return ""
    wish = re.sub(r"^learn (?:how )?to ", "", _phrase(found))
    if not wish and (dream := _DREAM.search(rest)) and (verb := book.GERUNDS.get(dream[1].lower())):
        wish = _phrase(re.match("(.+)", verb + dream[2]))
    return wish


def _phrase(found: re.Match[str] | None) -> str:
    """The words that a pattern caught, up to where the thought ends; nothing when too long."""
    if found is None:
        return ""
    caught = next(group for group in found.groups() if group)
    words = _PHRASE_END.split(caught + " ")[0].split()
    plain = all(_WORD.fullmatch(word) or (word.isascii() and word.isdigit()) for word in words)
    return " ".join(words) if plain and len(words) <= 9 else ""


# --- What the story is made of ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Outline:
    """The plot and everything that its sentences are filled from."""

    arc: book.Arc
    title: str
    slots: dict[str, str]
    hero_line: str
    place_name: str


def _outline(premise: str, plot: str, draft: str, seed: str) -> _Outline:
    """Read what the texts so far say, and let the dice decide what they leave open."""
    dice = _dice("outline", seed, premise)
    quote = _clean(premise)
    asked = _read_premise(quote)
    planned = _read_premise(_clean(_line(plot, "Hero"))) if plot else None
    told = _OPENING.match(_body(draft)) if draft else None
    hero = planned or asked or (_read_premise(_clean(told[1])) if told else None)
    if asked and planned and asked.called == planned.called:
        # The plot may have been edited: what it says goes first.
        hero = replace(
            asked,
            intro=planned.intro,
            trait=planned.trait or asked.trait,
            fear=planned.fear,
            wish=planned.wish,
        )
    stand_in = _pick(dice, book.STAND_INS)
    arc = _spotted(draft) or _spotted(plot) or _fitting(hero, dice)
    if hero is None:
        what, name, pronoun = stand_in
        hero = replace(_creature(what.split(" ", 1)[1], name), pronoun=pronoun)
    known = draft + plot
    at, place = _place(hero, _line(plot, "Place"), known, dice)
    friend, helper = _helper(hero, _line(plot, "Helper"), known, dice)
    slots = _slots(hero, friend, quote)
    slots |= {"at": at, "At": _upper(at), "helper": helper, "sense": place.sense}
    slots |= {"People": place.people, "people": _lower(place.people)}
    title = _line(plot, "Title") or _render(arc.title, dice, slots)
    line = hero.intro
    if hero.fear or hero.wish:
        line += f" who is afraid of {hero.fear}" if hero.fear else f" who wants to {hero.wish}"
    slots["trait_text"], slots["seen"] = _trait(hero, slots, dice)
    return _Outline(arc, title, slots, line, place.name or "the place")


_OPENING = re.compile(
    r"(?:Once upon a time there was|There was once|Long ago, or perhaps last week, there was"
    r"|This story is about|Here is a story about|This story belongs to)"
    r" (.+?)\. (?:His|Her|Its|Their) home"
)


def _line(plot: str, label: str) -> str:
    found = re.search(rf"^{label}: *(.+?)\.?$", plot, re.MULTILINE)
    return found[1].strip() if found else ""


def _spotted(text: str) -> book.Arc | None:
    """The plot that `text` tells, when it is one of ours."""
    text = text.lower()
    counts = [sum(mark in text for mark in arc.marks) / len(arc.marks) for arc in book.ARCS]
    best = max(counts)
    return book.ARCS[counts.index(best)] if best > 0.5 else None


def _fitting(hero: Hero | None, dice: random.Random) -> book.Arc:
    if hero is None:
        return book.WORDS
    if hero.fear:
        return book.FEAR
    if hero.wish:
        return book.WISH
    anywhere = (book.BELL, book.SPOONS, book.FOG)
    return _pick(dice, anywhere if hero.sort else (*anywhere, book.PARCEL))


def _place(hero: Hero, line: str, known: str, dice: random.Random) -> tuple[str, book.Place]:
    choice = _pick(dice, [place for place in book.PLACES if place.coast or hero.sort != "sea"])
    spotted = next((place for place in book.PLACES if place.name in known), None)
    elsewhere = hero.place or (_lower(_clean(line)) if line and not spotted else "")
    if elsewhere and not spotted:
        if not re.match(r"(?:in|on|at|under|inside|beneath|near|above|behind|beyond)\b", elsewhere):
            elsewhere = f"in {line}"
        place = book.Place("", "", "The neighbours", book.ELSEWHERE_SENSE)
        return elsewhere, place
    place = spotted or choice
    by = {"rooted": "at the edge of", "sea": "in the bay below", "sky": "high above"}
    return f"{by.get(hero.sort, place.at)} {place.name}, {place.about}", place


def _helper(hero: Hero, line: str, known: str, dice: random.Random) -> tuple[Hero, str]:
    strangers = [one for one in book.HELPERS if one[1].split()[-1] not in hero.intro]
    choice = _pick(dice, strangers)
    spotted = next((one for one in book.HELPERS if one[0] in known), None)
    written = re.split(r"[,.;]", line)[0] if line and not spotted else hero.friend
    other = _read_premise(_clean(_lower(written))) if written else None
    if other and not spotted:
        return other, other.called if other.intro.startswith("a certain ") else other.intro
    name, what, pronoun, habit = spotted or choice
    return Hero(name, what, name, pronoun), f"{what} called {name}, {habit}"


def _trait(hero: Hero, slots: dict[str, str], dice: random.Random) -> tuple[str, str]:
    plain = _pick(dice, book.PLAIN_TRAITS)
    rooted = book.ROOTED_TRAIT if hero.sort == "rooted" else book.OUTSIDE_TRAIT
    like, deed = _TRAITS.get(hero.trait, (rooted, "") if hero.sort else plain)
    if hero.sort:
        deed = book.ROOTED_DEED
    seen = f"{deed} And there, at last, was"
    return like.format_map(slots), seen.format_map(slots)


def _slots(hero: Hero, friend: Hero, premise: str) -> dict[str, str]:
    he, him, his, himself, he_was = _PRONOUNS[hero.pronoun]
    fhe, fhim = _PRONOUNS[friend.pronoun][:2]
    quote = _short(_first_sentence(premise))
    quote = quote if quote.endswith("..") else quote.removesuffix(".")
    stop = "" if quote.endswith(("!", "?", "..")) else "."
    slots = {
        "hero": hero.called, "intro": hero.intro, "he": he, "him": him, "his": his,
        "himself": himself, "he_was": he_was, "friend": friend.called, "fhe": fhe,
    }  # fmt: skip
    slots |= {_upper(name): _upper(text) for name, text in slots.items()}
    slots |= {
        "FHe": _upper(fhe), "fhim": fhim, "Title": hero.title, "trait": hero.trait,
        "fear": hero.fear or "the dark", "my_fear": _mine(hero.fear or "the dark"),
        "do": hero.wish or "sing", "legend": hero.legend,
        "note": f'On it was written: "{quote}"{stop}' if quote
        else "There was nothing written on it, and yet somebody had folded it with great care.",
    }  # fmt: skip
    return slots


# --- The four texts --------------------------------------------------------------------------


def _plot(outline: _Outline, dice: random.Random) -> str:
    arc, slots = outline.arc, outline.slots
    written = {
        "Title": outline.title,
        "Hero": f"{_upper(outline.hero_line)}.",
        "Place": f"{slots['At']}.",
        "Wish": arc.wish.format_map(slots),
        "Trouble": arc.trouble.format_map(slots),
        "Helper": f"{_upper(slots['helper'])}. {_render(_pick(dice, book.HELPS), dice, slots)}",
        "Turn": arc.turn.format_map(slots),
        "Ending": arc.ending.format_map(slots),
    }
    return "\n".join(f"{label}: {text}" for label, text in written.items())


def _story(outline: _Outline, dice: random.Random) -> str:
    arc = outline.arc
    slots = dict(outline.slots)
    slots["help"] = _render(book.HELP, dice, slots)
    slots["advice"] = _render(arc.advice[0], dice, slots)
    slots["close"] = _render(arc.close[0], dice, slots)
    opening = [_plain_opening(slots), book.PLAIN_SENSE]
    if slots["legend"]:
        opening.append(book.LEGEND)
    start = " ".join(_render(passage, dice, slots) for passage in opening)
    return "\n\n".join([outline.title, start, slots["trait_text"], _render(arc.body, dice, slots)])


def _plain_opening(slots: Mapping[str, str]) -> str:
    return book.PLAIN_OPENING_THE if slots["intro"].startswith("the ") else book.PLAIN_OPENING


#: What a critic can miss in a story -> the words by which a revision knows that it was missed.
_POINTS = {
    "opening": re.compile(r"\bopening|\bbegin|\bfirst (?:line|sentence)|\bhook", re.IGNORECASE),
    "place": re.compile(r"\bsounds?\b|\bsmell|\bsens(?:e|es|ory)\b|\bsetting", re.IGNORECASE),
    "advice": re.compile(r"\bdialogue|\baloud\b|\bconversation|\btalk", re.IGNORECASE),
    "close": re.compile(r"\bending|\blast (?:line|sentence)|\bconclu|\bresol", re.IGNORECASE),
}


def _critique(draft: str, outline: _Outline, dice: random.Random) -> str:
    sentences = _sentences(_body(draft)) or ["..."]
    slots = {
        **outline.slots,
        "first": _short(sentences[0]),
        "last": _short(sentences[-1]),
        "place": outline.place_name,
    }
    arc = _spotted(draft)
    if arc:
        liked, dull = f"what a listener will remember is {arc.praised}", book.DULL
    else:
        middle = _short(sentences[len(sentences) // 2])
        liked, dull = f'the line "{middle}" is one to keep', book.DULL_ELSEWHERE
    points = [_render(text, dice, slots) for text in dull.values()]
    title = _short(_title(draft) or outline.title)
    return "\n\n".join(
        [f'"{title}" has a warm heart, and {liked}.', *points, _pick(dice, book.VERDICTS)]
    )


def _revision(draft: str, critique: str, outline: _Outline) -> str:
    """`draft` with a better passage wherever the critique names a weak one."""
    arc, slots = outline.arc, outline.slots
    said = re.sub(r'"[^"\n]*"', "", critique)
    named = [point for point, words in _POINTS.items() if words.search(said)] or list(_POINTS)
    passages = {
        "opening": (_plain_opening(slots), arc.opening),
        # After the better opening the plain sentence about the place would hang in the air.
        "place": (book.PLAIN_SENSE, "{sense}" if "place" in named else ""),
        "advice": arc.advice,
        "close": arc.close,
    }
    text = draft
    for point in [*named, *(["place"] if "opening" in named else [])]:
        plain, better = passages[point]
        for weak in _every(plain, slots):
            text = text.replace(weak if better else f" {weak}", better.format_map(slots), 1)
    if text == draft:
        text = f"{draft.rstrip()}\n\n{book.NO_ENDING}"
    text = re.sub(r" +\n", "\n", text)
    return text if _title(draft) else f"{outline.title}\n\n{text}"


# --- Words -----------------------------------------------------------------------------------

#: Control characters, marks that turn the direction of writing, and halves of a pair: none of
#: them can be seen, and the last cannot be stored. Joiners stay, because emoji need them.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SENTENCE = re.compile(r".+?(?:[.!?…]+[\"')]*(?=\s|$)|[\u3002\uff01\uff1f]|$)", re.DOTALL)
_CHOICE = re.compile(r"\[([^\]]*)\]")
_QUOTE_NAMES = ("text", "prose", "critique", "summary", "story", "plot", "final")


def _text(part: object) -> str:
    """The text of a part, which may be JSON: then the text under a telling name, or the longest."""
    if isinstance(part, Mapping):
        texts = {str(name): value for name, value in part.items() if isinstance(value, str)}
        named = next((texts[name] for name in _QUOTE_NAMES if name in texts), None)
        part = named if named is not None else max(texts.values(), key=len, default=None) or part
    if part is None:
        return ""
    said = part if isinstance(part, str) else json.dumps(part, default=str, ensure_ascii=False)
    return _UNSEEN.sub("", said)


def _clean(text: str) -> str:
    """One line of what can be seen of the first `_PREMISE_CHARS` characters."""
    return " ".join(_UNSEEN.sub(" ", text[: 2 * _PREMISE_CHARS]).split())[:_PREMISE_CHARS].strip()


def _short(text: str) -> str:
    """`text`, or its beginning, in a form that can stand between quotation marks."""
    said = text.replace('"', "'")
    if len(said) <= _QUOTE_CHARS:
        return said
    cut = said[:_QUOTE_CHARS]
    return (cut.rsplit(" ", 1)[0] if " " in cut else cut).rstrip(" ,;:-") + "..."


def _first_sentence(text: str) -> str:
    found = _SENTENCE.match(text)
    return found[0].strip() if found else ""


def _sentences(text: str) -> list[str]:
    found = (sentence.strip() for sentence in _SENTENCE.findall(text))
    return [sentence for sentence in found if sentence]


def _title(story: str) -> str:
    """The first line of a story when it is a title and not its first sentence."""
    first, _, rest = story.strip().partition("\n")
    first = first.strip(" #*")
    return first if rest.strip() and len(first) <= 2 * _QUOTE_CHARS and first[-1:] != "." else ""


def _body(story: str) -> str:
    return story.strip().partition("\n")[2].strip() if _title(story) else story.strip()


def _key_words(words: Sequence[str]) -> list[str]:
    """The three words that come up most, the earlier one first among equals."""
    counts: dict[str, int] = {}
    for word in words:
        key = word.strip("\"'.,;:!?()[]{}<>*#-_/").lower()
        if 4 <= len(key) <= 24 and key not in book.SMALL_WORDS:
            counts[key] = counts.get(key, 0) + 1
    return sorted(counts, key=lambda key: -counts[key])[:3]


def _dice(*of: str) -> random.Random:
    """Dice that fall the same way everywhere for the same texts.

    Only `random()` is asked of them, the one method whose values Python promises to keep.
    """
    digest = hashlib.sha256("\0".join(of).encode("utf-8", "replace")).digest()
    return random.Random(digest)


def _pick(dice: random.Random, choices: Sequence[_T]) -> _T:
    return choices[int(dice.random() * len(choices))]


@lru_cache(maxsize=128)
def _cut(template: str) -> tuple[tuple[str, ...], ...]:
    """The pieces of a template, each a tuple of what may stand there."""
    unwrapped = (
        re.sub(r"(?<!\n)\n(?!\n)", " ", template.strip()) if template[:1] == "\n" else template
    )
    pieces = _CHOICE.split(unwrapped)
    return tuple(tuple(piece.split("|")) if at % 2 else (piece,) for at, piece in enumerate(pieces))


def _render(template: str, dice: random.Random, slots: Mapping[str, str]) -> str:
    # One pass of format_map over our own text: what a user wrote is a value and is not parsed.
    chosen = (_pick(dice, piece) if len(piece) > 1 else piece[0] for piece in _cut(template))
    return "".join(chosen).format_map(slots)


def _every(template: str, slots: Mapping[str, str]) -> list[str]:
    """Each text that `_render` could have made."""
    return ["".join(chosen).format_map(slots) for chosen in itertools.product(*_cut(template))]


def _bare(word: str) -> str:
    return word.strip('.,;:!?"()')


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _titled(text: str) -> str:
    small = ("a", "an", "the", "of", "and", "in", "but")
    words = text.split()
    return " ".join(
        word if at and word.lower() in small else _upper(word) for at, word in enumerate(words)
    )


def _mine(phrase: str) -> str:
    """What the hero says for `his own shadow`: my own shadow."""
    phrase = re.sub(r"\b(?:his|her|its|their)\b", "my", phrase)
    return re.sub(r"\b(?:him|her|it|them)sel(?:f|ves)\b", "myself", phrase)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


# --- Answers in JSON -------------------------------------------------------------------------

#: Levels below which what is optional is left out, so that a schema that holds itself ends.
_DEEP = 5
_PROSE_NAMES = (*_QUOTE_NAMES, "content", "answer", "response", "output")
_TITLE_NAMES = ("title", "headline", "heading", "subject", "name")
_FORMATS = {
    "date-time": "2026-01-01T12:00:00Z",
    "date": "2026-01-01",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "someone@example.org",
    "uri": "https://example.org/",
    "url": "https://example.org/",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_PATTERN_TRIES = (
    "a",
    "A",
    "1",
    "abc",
    "ABC",
    "123",
    "1234",
    "2026-01-01",
    "12:00",
    "0.5",
    "abc-1",
    "",
)


def fill(schema: Mapping[str, object], seed: str, prose: str) -> object:
    """A value that is valid under `schema`, with `prose` in it where text is asked for.

    The prose goes to the string property that is named like one (critique, text, summary...),
    else to the first without an enum; other strings get sentences of it. A `pattern` is met only
    when one of a few common values happens to. Raises `ValueError` for a `$ref` that leads
    nowhere or out of the schema.
    """
    return _Filler(schema, _dice("fill", seed, prose), prose).value(schema, "", 0)


class _Filler:
    def __init__(self, root: Mapping[str, object], dice: random.Random, prose: str) -> None:
        self.root = root
        self.dice = dice
        self.prose = prose
        self.sentences = itertools.cycle(_sentences(_body(prose)) or [prose])
        self.prose_is_due = True

    def value(self, schema: object, name: str, depth: int) -> object:
        found = self.plain(schema, depth)
        if "const" in found:
            return found["const"]
        if "enum" in found:
            return _pick(self.dice, _list(found["enum"]))
        match _type(found):
            case "object":
                return self.make_object(found, depth)
            case "array":
                return self.make_array(found, name, depth)
            case "integer":
                return self.make_integer(found)
            case "number":
                return self.make_number(found)
            case "boolean":
                return self.dice.random() < 0.5
            case "null":
                return None
        return self.make_string(found, name, is_prose=depth == 0)

    def plain(self, schema: object, depth: int) -> dict[str, object]:
        """`schema` without references and alternatives."""
        found = dict(schema) if isinstance(schema, Mapping) else {}
        for _ in range(32):
            if "$ref" in found:
                found = {**self.target(str(found.pop("$ref"))), **found}
            elif "allOf" in found:
                for part in _list(found.pop("allOf")):
                    found = _both(found, self.plain(part, depth))
            elif "anyOf" in found or "oneOf" in found:
                options = _list(found.pop("anyOf" if "anyOf" in found else "oneOf"))
                ends = [option for option in options if _dict(option).get("type") == "null"]
                choice = ends[0] if ends and depth > _DEEP else options[0]
                found = _both(found, _dict(choice))
            else:
                return found
        raise ValueError("the schema refers to itself and never says what it is")

    def target(self, ref: str) -> dict[str, object]:
        at: object = self.root
        for step in ref.removeprefix("#").strip("/").split("/"):
            step = step.replace("~1", "/").replace("~0", "~")
            if step and isinstance(at, Mapping) and step in at:
                at = at[step]
            elif step and isinstance(at, list) and step.isdigit() and int(step) < len(at):
                at = at[int(step)]
            elif step or not ref.startswith("#"):
                raise ValueError(f"the schema refers to {ref!r}, which it does not contain")
        return _dict(at)

    def make_object(self, schema: dict[str, object], depth: int) -> dict[str, object]:
        properties = _dict(schema.get("properties"))
        required = [str(name) for name in _list(schema.get("required"))]
        others = schema.get("additionalProperties")
        names = [name for name in properties if name in required or depth <= _DEEP]
        names += [name for name in required if name not in properties]
        for number in range(1, _int(schema.get("minProperties"), 0) - len(names) + 1):
            names.append(f"item_{number}")
        if len(names) > (most := _int(schema.get("maxProperties"), len(names))):
            names = (required + [name for name in names if name not in required])[:most]
        home = self.home_of_prose(properties, depth) if self.prose_is_due else None
        if home is not None:
            self.prose_is_due = False
        made: dict[str, object] = {}
        for name in names:
            wanted = properties.get(name, others)
            if name == home:
                made[name] = self.make_string(self.plain(wanted, depth), name, is_prose=True)
            else:
                made[name] = self.value(wanted, name, depth + 1)
        return made

    def home_of_prose(self, properties: dict[str, object], depth: int) -> str | None:
        free = [
            name
            for name, schema in properties.items()
            if _type(found := self.plain(schema, depth)) == "string"
            and not {"enum", "const", "format", "pattern"} & found.keys()
        ]
        named = [name for name in free if name.lower() in _PROSE_NAMES]
        return next(iter(named + free), None)

    def make_array(self, schema: dict[str, object], name: str, depth: int) -> list[object]:
        least = _int(schema.get("minItems"), 0)
        first = _list(schema.get("prefixItems"))
        items = schema.get("items", {})
        usual = len(first) or (2 if items is not False else 0)
        count = max(least, usual if depth <= _DEEP else 0)
        count = min(count, _int(schema.get("maxItems"), count))
        made: list[object] = []
        tries = 0
        while len(made) < count and tries < 200:
            tries += 1
            at = len(made)
            one = self.value(first[at] if at < len(first) else items, name, depth + 1)
            if schema.get("uniqueItems") is not True or one not in made:
                made.append(one)
            elif isinstance(one, str) and at >= len(first) and "enum" not in _dict(items):
                made.append(f"{one} ({at + 1})")
        return made

    def make_integer(self, schema: dict[str, object]) -> int:
        low, high = self.bounds(schema, 1, 10)
        step = max(1, math.ceil(_number(schema.get("multipleOf"), 1)))
        least, most = math.ceil(low / step), math.floor(high / step)
        if _number(schema.get("exclusiveMinimum"), math.nan) == least * step:
            least += 1
        if _number(schema.get("exclusiveMaximum"), math.nan) == most * step:
            most -= 1
        return step * min(most, least + int((most - least + 1) * self.share()))

    def make_number(self, schema: dict[str, object]) -> float:
        low, high = self.bounds(schema, 0, 1)
        if "multipleOf" in schema:
            step = _number(schema["multipleOf"], 1)
            for times in range(math.floor(high / step), math.ceil(low / step) - 1, -1):
                if low < times * step < high and (times * step) / step == times:
                    return times * step
            return math.ceil(low / step) * step
        exact = low + (high - low) * self.share()
        return rounded if low < (rounded := round(exact, 2)) < high else exact

    def bounds(self, schema: dict[str, object], low: float, high: float) -> tuple[float, float]:
        """The range that the schema leaves, as wide as the usual one where it says nothing."""
        wide = high - low
        lows = [_number(schema.get(key), -math.inf) for key in ("minimum", "exclusiveMinimum")]
        highs = [_number(schema.get(key), math.inf) for key in ("maximum", "exclusiveMaximum")]
        least, most = max(lows), min(highs)
        if math.isinf(least):
            least = low if math.isinf(most) or most > low else most - wide
        if math.isinf(most):
            most = high if high > least else least + wide
        return least, most

    def share(self) -> float:
        # In the upper half: a sample whose every mark is poor reads like a fault.
        return 0.55 + 0.4 * self.dice.random()

    def make_string(self, schema: dict[str, object], name: str, *, is_prose: bool) -> str:
        if (format_ := str(schema.get("format"))) in _FORMATS:
            return _FORMATS[format_]
        if is_prose:
            said = self.prose
        elif name.lower() in _TITLE_NAMES:
            said = _short(_title(self.prose) or _first_sentence(self.prose))
        else:
            said = next(self.sentences)
        if "pattern" in schema:
            fits = re.compile(str(schema["pattern"])).search
            said = next((text for text in (said, *_PATTERN_TRIES) if fits(text)), said)
        most = _int(schema.get("maxLength"), len(said))
        if len(said) > most:
            cut = said[:most]
            said = cut.rsplit(" ", 1)[0] if " " in cut[1:] else cut
        while len(said) < (least := _int(schema.get("minLength"), 0)):
            said = f"{said} {self.prose or '-'}"[: max(least, min(most, 4 * least))]
        return said


def _type(schema: dict[str, object]) -> str:
    said = schema.get("type")
    if isinstance(said, list):
        return next((str(one) for one in said if one != "null"), "null")
    if isinstance(said, str):
        return said
    hints = {"object": {"properties", "required", "additionalProperties", "minProperties"},
             "array": {"items", "prefixItems", "minItems"},
             "number": {"minimum", "maximum", "exclusiveMinimum", "multipleOf"}}  # fmt: skip
    return next((kind for kind, keys in hints.items() if keys & schema.keys()), "string")


def _both(one: dict[str, object], other: dict[str, object]) -> dict[str, object]:
    """Two schemas that hold at once."""
    both = {**one, **other}
    if "properties" in one and "properties" in other:
        both["properties"] = {**_dict(one["properties"]), **_dict(other["properties"])}
    if "required" in one and "required" in other:
        both["required"] = [*_list(one["required"]), *_list(other["required"])]
    return both


def _dict(value: object) -> dict[str, object]:
    return dict(value) if isinstance(value, Mapping) else {}


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _number(value: object, otherwise: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else otherwise  # type: ignore[return-value]


def _int(value: object, otherwise: int) -> int:
    return int(_number(value, otherwise))
