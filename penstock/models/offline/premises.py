"""Premises: who a story is about and what they want, read from a sentence that anybody wrote."""

import functools
import hashlib
import itertools
import re
from dataclasses import dataclass, replace

from penstock.models.offline import prose
from penstock.models.offline.data import load

_WORD = re.compile(r"[A-Za-zÀ-ÖØ-öø-ÿ][A-Za-zÀ-ÖØ-öø-ÿ'-]*")
_WORD_OR_NUMBER = re.compile(rf"{_WORD.pattern}|[0-9]+")


@dataclass(frozen=True)
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


@functools.lru_cache(maxsize=512)
def read_premise(premise: str) -> Hero | None:
    """Return the hero that `premise` names, or None when it names none that we can make out."""
    text = re.sub(r"\b(Mr|Mrs|Ms|Dr|St)\.", r"\1", prose.clean(premise))
    whole = prose.first_sentence(text).strip(" .!?\"'")
    said = _pattern(load("premises")["before"]).sub("", whole, count=1).strip()
    words = (said.lower() if said.isupper() else said).split()
    if len(said) > 3 * prose.QUOTE_CHARS or not (found := _hero_in(words)):
        return None
    return _with_rest(*found, prose.upper(" ".join(words)))


class _Words:
    """The words of `premises.yaml`: sorts of nouns, singulars of plurals, the classes of all."""

    def __init__(self) -> None:
        said = load("premises")
        self.sorts = {noun: sort for sort, of in said["nouns"].items() for noun in of.split()}
        self.singulars = {noun + end: noun for noun in self.sorts for end in ("es", "s")}
        self.singulars |= {f"{noun[:-1]}ies": noun for noun in self.sorts if noun.endswith("y")}
        self.singulars |= said["plurals"]
        self.classes: dict[str, str] = {}
        lists = {name: words.split() for name, words in said["classes"].items()}
        for name, words in {"NOUN": self.sorts, "MANY": self.singulars, **lists}.items():
            self.classes |= {word: self.classes.get(word, "") + name for word in words}
        self.classes |= {word: word for word in said["plain"].split()}


_words = functools.cache(_Words)


@functools.cache
def _pattern(text: str, flags: int = re.IGNORECASE) -> re.Pattern[str]:
    """`text` as a pattern, with the terms of `premises.yaml` in it."""
    while "@" in text:
        text = re.sub("@([a-z]+)", lambda term: load("premises")["terms"][term[1]], text)
    return re.compile(text, flags)


def _class_of(word: str) -> str:
    bare = prose.bare(word)
    if not _WORD.fullmatch(bare) or bare.endswith("'s"):
        return "-"
    name = _words().classes.get(bare.lower(), "WORD")
    marks = "'" * bare[0].isupper() + "," * (word[-1] in ",;:")
    return name + (marks if name.isupper() else "")


def _hero_in(words: list[str]) -> tuple[Hero, str] | None:
    """The hero with whom `words` begin, and the rest of them."""
    line = "".join(f"{_class_of(word)} " for word in words)
    tried = (_pattern(text, 0).match(line) for text in load("premises")["heroes"])
    if not (found := next(filter(None, tried), None)):
        return None
    said = {}
    for group, classes in found.groupdict(default="").items():
        start = line[: found.start(group)].count(" ")
        said[group] = " ".join(map(prose.bare, words[start : start + classes.count(" ")]))
    return _hero(said), " ".join(words[found[0].count(" ") :])


def _hero(said: dict[str, str]) -> Hero:
    """The hero of what the groups of a pattern caught."""
    name = " ".join(map(prose.upper, said.get("name", "").split()))
    whole, kind = prose.titled(said.get("whole", name)), said.get("kind", "")
    classes = " ".join(_words().classes.get(word.lower(), "") for word in name.split()[::-1])
    gender = re.search("(GIRL|DAME)|BOY|LORD", classes)
    pronoun = ("she" if gender[1] else "he") if gender else ""
    if many := said.get("many", "").lower():
        # Of three little robots it is the smallest: a story has one hero.
        lead = said["lead"].lower() or "the"
        kind = f"{'smaller' if lead.startswith('two') else 'smallest'} {_words().singulars[many]}"
    elif not kind and " " not in whole:
        kind = {"she": "girl", "he": "boy"}.get(pronoun, "")
    if not kind:
        return Hero(name, f"a certain {whole}", whole, pronoun or "they")
    if all(word[:1].isupper() for word in kind.split()):
        kind = kind.lower()
    words = kind.lower().split()
    sort = _words().sorts.get(words[-1], "they")
    fixed = sort if sort in load("traits")["fixed"] else ""
    pronoun = pronoun or ("it" if fixed else sort)
    if name and pronoun == "it":
        pronoun = "she" if hashlib.sha256(name.encode()).digest()[0] % 2 else "he"
    title = name or f"The {prose.titled(kind)}"
    if "the" in said:
        title = f"{name} the {prose.titled(kind)}"
    trait = next((word for word in words if word in load("traits")["named"]), "")
    if many:
        return Hero(f"the {kind}", f"the {words[0]} of {lead} {many}", title, pronoun, fixed, trait)
    nouns = len(list(itertools.takewhile(_words().sorts.__contains__, reversed(words)))) or 1
    called = name or f"the {' '.join(kind.split()[-nouns:])}"
    articles = load("premises")["articles"].items()
    article = next((article for article, of in articles if re.match(of, kind.lower())), "a")
    intro = f"{article} {kind}" + (f" called {name}" if name else "")
    return Hero(called, intro, title, pronoun, fixed, trait)


def _with_rest(hero: Hero, rest: str, whole: str) -> Hero:
    """`hero` with what the rest says: a fear, a wish, a trait, or a place and a companion."""
    said = load("premises")
    if hero.pronoun in ("it", "they") and (hint := _pattern(said["hints"]).search(rest)):
        hero = replace(hero, pronoun=str(hint.lastgroup))
    rest = _pattern(said["dreams"]).sub(lambda of: said["verbs"].get(of[1].lower(), of[0]), rest)
    for rule in said["rest"]:
        if not (found := _pattern(rule["says"]).search(rest)):
            continue
        # Up to where the thought ends; one of too many words is none.
        words = _pattern(said["ends"]).split(found[1] + " ")[0].split()
        value = " ".join(words)
        is_plain = 0 < len(words) <= 9 and all(map(_WORD_OR_NUMBER.fullmatch, words))
        if is_plain and (rule["gives"] != "trait" or value in load("traits")["named"]):
            hero = replace(hero, **{rule["gives"]: rule.get("form", "{}").format(value)})
            if rule["gives"] != "place":
                return hero
            rest = rest[: found.start()].strip()
    joined = _pattern(said["joins"]).match(rest)
    if joined and (friend := _hero_in(rest[joined.end() :].split())):
        hero, rest = replace(hero, friend=friend[0].intro), friend[1]
    return replace(hero, legend=prose.short(whole)) if rest.strip(" .!?,") else hero
