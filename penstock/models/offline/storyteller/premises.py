"""Premises: who a story is about and what they want, read from a sentence that anybody wrote."""

import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from penstock.models.offline.storyteller import book, prose


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
def read_premise(premise: str) -> Hero | None:
    """The hero that `premise` names, or nothing when it names none that we can make out."""
    text = re.sub(r"\b(Mr|Mrs|Ms|Dr|St)\.", r"\1", prose.clean(premise))
    whole = prose.first_sentence(text).rstrip(" .!?")
    said = _PREFIXES.sub("", whole, count=1).strip()
    if said.isupper():
        said = said.lower()
    words = said.split()
    if not words or len(said) > 3 * prose.QUOTE_CHARS:
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
    return _with_rest(found, " ".join(words[used:]), prose.upper(said))


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
        noun = prose.bare(words[at]).lower()
        single = _singular(noun)
        if noun in book.KINDS or prose.bare(words[at]) == "":
            return None
        if single in book.KINDS and (start or at == 0 or lead in _COUNTS or lead == "the"):
            group = " ".join(prose.bare(word) for word in words[start : at + 1]).lower()
            if lead not in _COUNTS and lead != "the":
                group = "the " + group
            degree = "smaller" if lead == "two" else "smallest"
            called = f"the {degree} {single}"
            sort = book.KINDS[single]
            pronoun = sort if sort in ("she", "he") else "it"
            intro = f"the {degree} of {group}"
            hero = Hero(called, intro, prose.titled(called), pronoun, _rooted(sort), "smallest")
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
    hero = creature(kind, name)
    return replace(hero, title=f"{name} the {prose.titled(kind)}"), at + 1 + span


def _noun(words: list[str]) -> tuple[Hero, int] | None:
    """`A lighthouse`, `a quiet robot called Bolt`, `dragon`."""
    lead = words[0].lower()
    start = 1 if lead in _ARTICLES else 0
    span = _noun_phrase(words[start:])
    if span is None or (start == 0 and span > 3):
        return None
    used = start + span
    head = prose.bare(words[used - 1]).lower()
    if head not in book.KINDS and lead not in ("a", "an"):
        return None
    kind = _kind(words[start:used])
    if prose.bare(" ".join(words[used : used + 1])).lower() in ("called", "named"):
        end = used + 2
        while end < len(words) and words[end][0].isupper():
            end += 1
        name = " ".join(prose.bare(word) for word in words[used + 1 : end])
        if name:
            return creature(kind, name[0].upper() + name[1:]), end
    return creature(kind, ""), used


def _titled_name(words: list[str]) -> tuple[Hero, int] | None:
    """`Captain Blue and the whale`."""
    if len(words) < 2 or words[0].lower() not in _TITLES or not words[1][0].isupper():
        return None
    name = f"{prose.upper(words[0])} {prose.bare(words[1])}"
    return (_somebody(name, name), 2) if _WORD.fullmatch(prose.bare(words[1])) else None


def _name_only(words: list[str]) -> tuple[Hero, int] | None:
    """`Maya`, `Tom is afraid of spiders`, `Luna, a small star`, `Tim is a flying dog`."""
    name = prose.upper(prose.bare(words[0]))
    lowered = [prose.bare(word).lower() for word in words]
    if not _WORD.fullmatch(name) or lowered[0] in _STOPS | _VERBS:
        return None
    start = 1 + (lowered[1:2] in (["is"], ["was"]))
    if lowered[start : start + 1] in (["a"], ["an"]) and (start > 1 or words[0][-1] == ","):
        span = _noun_phrase(words[start + 1 :])
        if span:
            used = start + 1 + span
            return creature(_kind(words[start + 1 : used]), name), used
    known = lowered[0] in book.GIRLS or lowered[0] in book.BOYS
    told = words[0][0].isupper() and (lowered[1:2] == ["who"] or _speaks_of(words))
    return (_somebody(name, name), 1) if known or told else None


def _speaks_of(words: list[str]) -> bool:
    rest = " ".join(words[1:])
    return bool(_FEAR.match(rest.removeprefix("is ")) or _WISH.match(rest) or _SEEK.match(rest))


def _noun_phrase(words: Sequence[str]) -> int | None:
    """How many of `words` name a thing that can be a hero."""
    for at, word in enumerate(words[:8]):
        noun = prose.bare(word).lower()
        if not _WORD.fullmatch(noun) or noun.endswith("'s"):
            return None
        if noun in _JOINS and at and "".join(words[at + 1 : at + 2]).lower() not in _ARTICLES:
            continue
        if noun in book.KINDS:
            while (
                at + 1 < len(words)
                and words[at] == prose.bare(words[at])
                and prose.bare(words[at + 1]).lower() in book.KINDS
            ):
                at += 1
            return at + 1
        if noun in _STOPS:
            return at if 1 <= at <= 3 and noun in _SOMEBODY else None
        if word != noun and word[-1] in ",;:":
            return None
    return None


def _kind(words: Sequence[str]) -> str:
    bare = [prose.bare(word) for word in words]
    typed_as_title = all(word[0].isupper() for word in bare)
    return " ".join(bare).lower() if typed_as_title else " ".join(bare)


def creature(kind: str, name: str) -> Hero:
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
    trait = next((word for word in kind.lower().split() if word in TRAITS), "")
    title = name or f"The {prose.titled(kind)}"
    return Hero(name or f"the {head}", intro, title, pronoun, _rooted(sort), trait)


def _somebody(name: str, whole: str) -> Hero:
    """A hero of whom only the name is known."""
    first = prose.bare(name.split()[-1]).lower()
    title = prose.bare(name.split()[0]).lower()
    if first in book.GIRLS or title in ("princess", "queen", "mrs", "ms", "miss", "lady", "aunt"):
        pronoun = "she"
    elif first in book.BOYS or title in ("prince", "king", "mr", "sir", "uncle", "grandpa"):
        pronoun = "he"
    else:
        pronoun = "she" if title == "grandma" else "they"
    if name == whole == name.split()[0] and pronoun in ("she", "he"):
        return creature("girl" if pronoun == "she" else "boy", name)
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
    if trait in TRAITS:
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
    return replace(hero, legend=prose.short(whole)) if rest.strip(" .!?,") else hero


TRAITS = {word: texts for words, texts in book.TRAITS.items() for word in words.split()}


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
