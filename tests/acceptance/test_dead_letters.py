"""Dead letters: replayed, mended, dropped; what was recorded is not paid for again."""

import pathlib
import sys
from typing import Any

import pytest

from penstock.runs.runs import DEAD
from tests.acceptance.homes import Home
from tests.programs import FAUST, wait_until

STEPS = """
import os, pathlib
from penstock.steps import Work, step

NOTES = pathlib.Path(os.environ["NOTES"])

def ask(question: str) -> str:
    with (NOTES / "asked").open("a") as file:
        file.write(question + "\\n")
    return question

def fail(mood: str) -> str:
    if not (NOTES / mood).exists():
        raise KeyError(mood)
    return mood

@step("write")
async def write(work: Work) -> str:
    asked = await work.call("ask", ask, work.parts["idea"])
    return asked + " " + await work.call("fail", fail, "mended")

@step("count")
async def count(work: Work) -> None:
    ask("counted " + work.parts["idea"])
"""
CHAIN = """\
pipeline: tale
topics: {idea: What it is about, text: The text}
stages:
  - {reads: idea, step: write, writes: text}
  - {reads: idea, step: count}
"""


@pytest.fixture
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A pipeline whose step asks, and then fails until there is a file `mended`."""
    monkeypatch.setenv("NOTES", str(tmp_path))  # this process reads the project too
    for name, text in {"steps/tale.py": STEPS, "topics/tale.yaml": CHAIN}.items():
        (tmp_path / "project" / name).parent.mkdir(parents=True)
        (tmp_path / "project" / name).write_text(text)
    return Home(
        tmp_path / "home",
        PENSTOCK_PROJECT=str(tmp_path / "project"),
        PENSTOCK_ATTEMPTS="1",
        PENSTOCK_PARTITIONS="1",
    )


def begin(home: Home, idea: str) -> str:
    trace_id: str = home.run("submit", "tale", "--json", idea).json()["trace_id"]
    return trace_id


def dead_letters_of(home: Home) -> list[dict[str, Any]]:
    """The open dead letters; the traceback of a step's author is among what they say."""
    screen = home.show("dead-letters", "--json")
    assert screen.code == 0
    return screen.json_lines()


def asked(tmp_path: pathlib.Path) -> list[str]:
    return sorted((tmp_path / "asked").read_text().splitlines())


@pytest.mark.timeout(120)
def test_a_replay_keeps_the_trace_and_pays_for_nothing_that_was_recorded(
    home: Home, tmp_path: pathlib.Path
) -> None:
    with home.worker() as worker:
        first, second = begin(home, "first"), begin(home, "second")
        home.wait_for(first, second, state=DEAD)
        dead_letters = {
            dead_letter["trace_id"]: dead_letter for dead_letter in dead_letters_of(home)
        }
        assert (
            dead_letters[first]["cause"] == "StepFailed"
            and "mended" in dead_letters[first]["message"]
        )

        # Once more in vain, and then it is mended.
        replayed = home.run("dead-letters", "replay", dead_letters[first]["id"], "--json").json()
        assert replayed["trace_id"] == first and replayed["replay"] == 1
        worker.wait_for(
            f"run {first}: replay 1 for tale_write_idea; what was recorded is not paid for again"
        )
        wait_until(lambda: len(dead_letters_of(home)) == 2, "the second death")
        (tmp_path / "mended").touch()
        shown = home.run("dead-letters", "replay", "--all", "--cause", "StepFailed").out
        assert shown.count("replayed ") == 2 and first in shown and second in shown
        runs = home.wait_for(first, second)
        assert [run.answer for run in runs] == ["first mended", "second mended"]
        assert not dead_letters_of(home)
        assert worker.stop() == 0
    # Each question once; and the other reader of the topic did nothing again.
    assert asked(tmp_path) == ["counted first", "counted second", "first", "second"]


@pytest.mark.timeout(120)
def test_a_record_that_is_no_event_is_mended_in_an_editor_or_dropped(
    home: Home, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "mended").touch()
    with home.worker() as worker:
        home.run("send", "idea", '{"no": "event"}', program=FAUST)
        dead_letters = wait_until(lambda: [*dead_letters_of(home)][1:], "a letter of each reader")
        mend, drop = (dead_letter["id"] for dead_letter in dead_letters_of(home)[:2])
        said = home.fails("dead-letters", "replay", mend)
        assert "not an event" in said and "--edit, or drop it" in said
        said = home.fails("dead-letters", "replay", "--all")
        assert said.count("--edit, or drop it") == 2 and "2 of 2 could not be replayed" in said
        said = home.run("dead-letters", "replay", mend, "--edit", code=1, EDITOR="true").err
        assert "nothing was changed" in said

        event = '{"id":"1","trace_id":"6d1f1f0e-0f4c-4a43-8d6e-2b5b3a1c9f10","pipeline":"tale",'
        event += '"stage":"submit","parts":{"idea":"third"},"created":1.0}'
        (tmp_path / "event").write_text(event)
        editor = tmp_path / "editor"
        copy = f"import shutil, sys\nshutil.copy({str(tmp_path / 'event')!r}, sys.argv[1])\n"
        editor.write_text(f"#!{sys.executable}\n{copy}")
        editor.chmod(0o755)
        home.run("dead-letters", "replay", mend, "--edit", EDITOR=str(editor))
        home.run("dead-letters", "drop", drop)
        assert f"there is no dead letter {drop} that is open" in home.fails(
            "dead-letters", "drop", drop
        )
        wait_until(lambda: not dead_letters_of(home), "no letter to be left")
        home.wait_for("6d1f1f0e-0f4c-4a43-8d6e-2b5b3a1c9f10")
        assert worker.stop() == 0
    assert dead_letters and asked(tmp_path) in (["third"], ["counted third"])
