"""The words that Penstock left behind are nobody's name any more: each meant several things, or was
ours alone. The glossary in ARCHITECTURE.md has those that stand for them."""

import ast
import functools
import itertools
import re
from collections.abc import Iterator

import pytest

from penstock import signals
from penstock.settings import describe
from tests.programs import ROOT

#: Where all Python of this repository is.
FOLDERS = ("app", "bench", "examples", "penstock", "tests")
#: A word and its forms.
LEFT_BEHIND = {
    *("place", "places", "placed", "placing", "told", "tell", "tells", "telling"),
    *("turn", "turns", "turned", "turning", "lane", "lanes", "come", "comes", "coming", "came"),
    *("bury", "buries", "buried", "burying", "convict", "convicts", "convicted"),
    *("crew", "crews", "farewell", "farewells", "passage", "passages", "sought"),
    *("letter", "letters"),
}
#: Names of other people's: a class of the SDK's, and a method of Python's files, which is called
#: and never defined here.
THEIRS = {"MaxTurnsExceeded", ".tell"}


@functools.cache
def words(name: str) -> set[str]:
    """The words of `snake_case`, `CamelCase`, `kebab-case` and `dotted.names`; a dead letter is
    one."""
    return without_dead_letters(
        re.split(r"[_.-]", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())
    )


def without_dead_letters(found: list[str]) -> set[str]:
    return {*found} - ({"letter", "letters"} if "dead" in found else set())


def names(source: str) -> Iterator[str]:
    """Every name that is defined or used in `source`, an attribute's with its dot."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant):
            continue  # what a string says is no name
        dot = "." if isinstance(node, ast.Attribute) else ""
        for value in vars(node).values():
            if isinstance(value, str):
                yield dot + value
            elif isinstance(value, list):  # as those of `global`
                yield from (one for one in value if isinstance(one, str))


def left_behind(source: str) -> set[str]:
    """The names in `source` that hold a word that was left behind."""
    if not any(words(one) & LEFT_BEHIND for one in set(re.findall(r"\w+", source))):
        return set()  # not even in its texts, and reading it as a program takes long
    return {name for name in {*names(source)} - THEIRS if words(name) & LEFT_BEHIND}


def test_no_name_in_the_code_is_a_word_that_was_left_behind():
    found, looked_at = [], 0
    for file in itertools.chain.from_iterable((ROOT / one).rglob("*.py") for one in FOLDERS):
        path = file.relative_to(ROOT)
        if "offline" in path.parts:
            continue  # its stories are told, and have places
        looked_at += 1
        own = {one for one in (*path.parts[:-1], path.stem) if words(one) & LEFT_BEHIND}
        found += [f"{path}: {one}" for one in own | left_behind(file.read_text(encoding="utf-8"))]
    assert sorted(found) == []
    assert looked_at > 300


@pytest.mark.parametrize(
    "source",
    [
        *("told = 1", "print(f'{told}')", "def tell(): 0", "async def bury(): 0"),
        *("class OldLane: 0", "del sought"),
        *("lambda place: 0", "f(turns=1)", "one.come", "def f(*letters, **crew): 0"),
        *("import farewell", "import a.passage", "import a as told", "from told import a"),
        *("from a import tell", "try: 0\nexcept E as told: 0", "def f(): global convict"),
        *("match x:\n case [*places]: 0", "match x:\n case {**told}: 0", "match x:\n case came: 0"),
    ],
)
def test_a_name_is_found_wherever_it_is_written(source):
    assert len(left_behind(source)) >= 1


@pytest.mark.parametrize(
    "source",
    [
        "file.tell()",
        "raise MaxTurnsExceeded",
        "dead_letter",
        "class DeadLetters: 0",
        "f('told', b=1)",
    ],
)
def test_what_others_have_named_dead_letters_and_texts_are_no_finds(source):
    assert left_behind(source) == set()


def test_no_setting_action_or_heading_is_one_either():
    kinds = [kind for kind in vars(signals).values() if isinstance(kind, type)]
    found = [getattr(kind, "action", None) for kind in kinds]
    actions = [action for action in found if isinstance(action, str)]
    headings = [
        line
        for file in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.startswith("#")
    ]
    said = [*(name for name, _, _ in describe()), *actions]
    assert [one for one in said if words(one) & LEFT_BEHIND] == []
    of_headings = {
        one: without_dead_letters(re.findall(r"[a-z]+", one.lower())) for one in headings
    }
    assert [one for one, found in of_headings.items() if found & LEFT_BEHIND] == []
