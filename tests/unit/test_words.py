"""The words that Penstock left behind are nobody's name any more: each meant several things, or was
ours alone. The glossary in ARCHITECTURE.md has those that stand for them."""

import ast
import pathlib
import re
from collections.abc import Iterator

import penstock
from penstock import signals
from penstock.settings import describe
from tests.programs import ROOT

LIBRARY = pathlib.Path(penstock.__file__).parent
#: A word and its forms.
LEFT_BEHIND = {
    *("place", "places", "placed", "told", "tell", "tells", "turn", "turns", "lane", "lanes"),
    *("bury", "buried", "convict", "convicted", "crew", "farewell", "passage", "sought"),
    *("come", "comes", "coming", "letter", "letters"),
}
#: Names of other people's: a class of the SDK's, a method of Python's files.
THEIRS = {"MaxTurnsExceeded", "tell"}


def words(name: str) -> set[str]:
    """The words of `snake_case`, `CamelCase` and `kebab-case`; a dead letter is one."""
    return without_dead_letters(
        re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", "_").split("_")
    )


def without_dead_letters(found: list[str]) -> set[str]:
    return {*found} - ({"letter", "letters"} if "dead" in found else set())


def names(file: pathlib.Path) -> Iterator[str]:
    """Every name that is defined or used in `file`, and its own."""
    yield file.stem
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name):
                yield name


def test_no_name_in_the_library_is_a_word_that_was_left_behind():
    found = {
        f"{file.relative_to(LIBRARY)}: {name}"
        for file in LIBRARY.rglob("*.py")
        if "offline" not in file.parts  # its stories are told, and have places
        for name in names(file)
        if name not in THEIRS and words(name) & LEFT_BEHIND
    }
    assert sorted(found) == []


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
