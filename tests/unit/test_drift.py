"""Drift: what changes under a worker is said once, and how to take it."""

import asyncio
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from penstock.broker.contract import Unread
from penstock.errors import BrokerUnavailable
from penstock.project.project import Project, read_cards, read_project
from penstock.signals import EventsUnread, FilesChanged, Signals
from penstock.worker.drift import Drift
from penstock.worker.life import Life

FILES = {
    "agents/bard.md": "Be kind.",
    "topics/tale.yaml": "pipeline: tale\ntopics: {idea: a, text: b}\n"
    "stages: [{reads: idea, agent: bard, writes: text}]\n",
    "steps/own.py": "import lexicon\n",
    "lexicon.py": "WORDS = 7\n",
}


@pytest.fixture
def project(tmp_path: pathlib.Path) -> Project:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return read_project(tmp_path)


def watch(project: Project, *edits: Callable[[], Any], unread: Any = None) -> list[Any]:
    """What is said while one of the edits is made after each look."""
    said: list[Any] = []
    signals = Signals()
    signals.on(FilesChanged, said.append)
    signals.on(EventsUnread, said.append)
    left = list(edits)

    async def sleep(_: float) -> None:
        if left:
            left.pop(0)()
        else:
            over.append(True)

    over: list[bool] = []
    drift = Drift(project, unread, Life(lambda: bool(over), sleep), signals)
    asyncio.run(drift.watch_files() if unread is None else drift.watch_topics())
    return [*said, *(condition.reason for condition in drift.conditions)]


def test_a_file_that_changes_is_said_once_with_the_way_to_take_it(project):
    card = project.root / "agents" / "bard.md"
    texts = ("Be brief.", "Be brief.", "Be mean.")
    edits = [functools.partial(card.write_text, text) for text in texts]
    said = watch(project, *edits)
    assert [one.files for one in said[:2]] == [("agents/bard.md",)] * 2
    assert said[2:] == [str(said[1])]
    assert "agents/bard.md. It works with what it has read; penstock worker --reload" in said[2]


@pytest.mark.parametrize("name", ["topics/tale.yaml", "steps/own.py", "lexicon.py", "steps/new.py"])
def test_all_that_is_no_card_is_taken_by_a_restart(project, name):
    (said, shown) = watch(project, lambda: (project.root / name).write_text("x = 1\n"))
    assert said.files == (name,)
    assert shown.endswith("a restart takes them")


def test_what_was_changed_back_is_said_and_no_longer_shown(project):
    card = project.root / "agents" / "bard.md"
    said = watch(project, card.unlink, lambda: card.write_text(FILES["agents/bard.md"]))
    assert [one.files for one in said] == [("agents/bard.md",), ()]


def test_cards_are_read_anew_against_the_chains_that_the_worker_has(project):
    (project.root / "topics" / "tale.yaml").write_text("not a chain")
    card = project.root / "agents" / "bard.md"
    card.write_text("Be brief.")
    anew = read_cards(project)
    assert (anew.problems, anew.cards["bard"].common) == ([], "Be brief.")
    assert project.cards["bard"].common == "Be kind."
    card.write_text("---\ntools: [look]\n---\nBe brief.")
    assert "there is no tool 'look'" in read_cards(project).problems[0]
    card.unlink()
    assert "bard.md is missing" in read_cards(project).problems[0]


def test_what_no_stage_reads_is_said_when_it_is_found_and_asked_for_again(project):
    one = Unread("old", ("teller",), 2)
    answers: list[Any] = [[one], BrokerUnavailable("away"), [one], []]

    async def unread() -> list[Unread]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    (said,) = watch(project, *([lambda: None] * 3), unread=unread)
    assert said == EventsUnread("old", str(one))
