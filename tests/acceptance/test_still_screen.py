"""A screen that somebody looks at: it says what is under way, and a pipe is told nothing of it."""

import os
import pathlib
import pty
import sys
from collections.abc import Callable

import pytest

from tests.acceptance.homes import Home
from tests.programs import PATIENCE_S, PENSTOCK, start, wait_until
from tests.servers import ScriptedServer

CHAIN = """\
pipeline: answers
topics: {ask: A question, answer: An answer}
stages: [{reads: ask, agent: teller, writes: answer}]
"""


@pytest.fixture
def home(tmp_path: pathlib.Path, scripted: ScriptedServer) -> Home:
    project = tmp_path / "project"
    for name, text in (("agents/teller.md", "Answer.\n"), ("topics/answers.yaml", CHAIN)):
        (project / name).parent.mkdir(parents=True)
        (project / name).write_text(text)
    model = f"{scripted.base_url}#the-model"
    return Home(tmp_path / "home", PENSTOCK_PROJECT=str(project), PENSTOCK_MODEL=model)


def shown_on_a_terminal(
    home: Home, meanwhile: Callable[[Callable[[str], bool]], None], *arguments: str
) -> str:
    """All that `penstock ARGUMENTS` shows on a terminal. `meanwhile` is given a look at whether it
    has shown a text by now."""
    ours, theirs = pty.openpty()
    shown = bytearray()
    os.set_blocking(ours, False)

    def has_shown(text: str) -> bool:
        try:
            while piece := os.read(ours, 65536):
                shown.extend(piece)
        except OSError:
            pass  # no more for now, or for ever
        return text.encode() in shown

    try:
        with (
            os.fdopen(theirs, "wb", buffering=0) as terminal,
            (home.folder / "out.txt").open("wb") as out,
        ):
            command = [sys.executable, *PENSTOCK[1:], *arguments]
            env = home.env | {"TERM": "xterm", "COLUMNS": "200"}
            process = start(command, env=env, cwd=home.cwd, out=out, err=terminal)
        meanwhile(has_shown)
        wait_until(lambda: has_shown("") and process.poll() is not None, "its end")
        assert process.wait(PATIENCE_S) == 0 and has_shown("")
    finally:
        os.close(ours)
    return shown.decode()


def test_a_terminal_shows_who_works_with_how_many_tokens_and_what_is_waited_for(
    home: Home, scripted: ScriptedServer
) -> None:
    scripted.script(
        [
            {"fault": "status", "status": 503, "headers": {"retry-after": "2"}},
            {"fault": "silent", "after": 3},
        ]
    )

    def meanwhile(has_shown: Callable[[str], bool]) -> None:
        wait_until(lambda: has_shown("waits until "), "what it waits for, and until when")
        wait_until(lambda: has_shown("3 tokens, "), "the tokens so far")
        scripted.release()

    shown = shown_on_a_terminal(home, meanwhile, "run", "answers", "What is it?")
    assert "for its next try, after: server/the-model answered 503" in shown
    assert "teller" in shown and "… 0:0" in shown
    assert shown.count("→ answer") == 1, "the plain line stays"
    assert shown.endswith("\x1b[2K"), "what was under way is wiped out"
    assert "Scripted answer" in (home.folder / "out.txt").read_text()


def test_a_pipe_gets_the_plain_lines_alone(home: Home) -> None:
    screen = home.run("run", "answers", "What is it?")
    assert "\x1b" not in screen.text and "…" not in screen.err
    assert [line.split()[0] for line in screen.err.splitlines()] == ["answers:", "teller"]
