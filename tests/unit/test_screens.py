"""Screens: text of models and of others is shown as text and does nothing to the terminal."""

import io
import logging
import uuid

import msgspec
import pytest
from rich.text import Text
from rich.tree import Tree

from penstock.commands.screens import Screen, line_under_way, run_tree
from penstock.journal import Call
from penstock.record.events import first_event
from penstock.record.steps import OUTAGE, QUEUE, Hold, StepRecord, Try
from penstock.runs.runs import Entry, Run
from penstock.under_way import Step
from penstock.worker.console import on_one_line, printable, show


@pytest.mark.parametrize(
    "text",
    [
        "Ein Frosch 🐸 über 雪 — “quoted”, 5 € …",
        "line one\nline two\n\ttabbed",
        "مرحبا שלום",
        "e\u0301 is an accent of its own",
        "[bold]no markup[/bold] and \\[ neither",
        "",
    ],
)
def test_text_is_left_as_it_is(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("\x1b]0;title\x07", "]0;title"),
        ("\x1b[2J\x1b[H$ rm -rf /", "[2J[H$ rm -rf /"),
        ("\x9b31mC1 control", "31mC1 control"),
        ("safe\rfaked", "safefaked"),
        ("a\r\nb", "a\nb"),
        ("abc\b\b\bxyz", "abcxyz"),
        ("nul\0, del\x7f, nel\x85", "nul, del, nel"),
    ],
)
def test_escape_sequences_and_control_characters_lose_what_makes_them_work(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    "character",
    [
        "\u202e",  # right-to-left override: 'exe.txt' for 'txt.exe'
        "\u202a", "\u202d", "\u2066", "\u2067", "\u2069", "\u200e", "\u200f", "\u061c",
        "\u200b",  # zero width space
        "\ufeff", "\u2060",
        "\U000e0041",  # tag characters carry text that nobody sees
        "\ud800",  # a lone surrogate cannot be printed at all
        "\ue000",
    ],
)  # fmt: skip
def test_what_reverses_or_hides_text_is_dropped(character):
    assert printable(f"a{character}b") == "ab"


def test_what_a_step_shows_on_the_workers_console_does_nothing_to_it_either(capfd):
    show("✅ The end\n\x1b]0;title\x07\u202etxt")
    assert capfd.readouterr().out == "✅ The end\n]0;titletxt\n"


ATTACK = "a\x1b]0;title\x07\x1b[2J\u202eb\x9bc"


def test_whatever_is_printed_in_a_tree_or_a_table_is_text_too():
    file = io.StringIO()
    screen = Screen(file=file, force_terminal=True, width=80, highlight=False)
    tree = Tree(Text(ATTACK, style="bold"))
    tree.add(Text.assemble((ATTACK, "cyan"), ATTACK))
    screen.print(tree, ATTACK, Text(ATTACK), markup=False)
    printed = file.getvalue()
    assert printed.count("a]0;title[2Jbc") == 5
    assert "\x1b[1m" in printed, "its own colours stay"
    assert not any(one in printed for one in ("\x1b]", "\x07", "\x1b[2J", "\u202e", "\x9b"))


def test_a_line_of_the_log_is_one_line_and_text_whoever_says_what():
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    handler.addFilter(on_one_line)
    log = logging.Logger("a log")
    log.addHandler(handler)
    log.error("a key %r and %s", b"\n", f"{ATTACK}\nERROR: run 7 was paid by you")
    log.error("100 %s of it")  # with no arguments, that is a text
    assert said.getvalue() == (
        "ERROR: a key b'\\n' and a]0;title[2Jbc\\nERROR: run 7 was paid by you\n"
        "ERROR: 100 %s of it\n"
    )


def test_the_tags_of_a_run_stand_in_its_tree_on_one_line():
    event = first_event("tale", {"idea": "x"})
    event = msgspec.structs.replace(event, tags={"key": "order-17\nrun 1 is done"})
    title = run_tree(Run(event.trace_id, "tale", (Entry("idea", 0, 0, event, ()),), ())).label
    assert str(title).endswith("  key: order-17 run 1 is done") and "\n" not in str(title)


def tree_of(step: StepRecord, full: bool = False) -> list[str]:
    """The lines of a run whose event `idea` was given to `step`, which made `draft`."""
    idea = msgspec.structs.replace(first_event("tale", {"idea": "a snail"}, step.trace_id), id="i")
    draft = msgspec.structs.replace(
        idea, id="d", parent_id="i", stage="teller", parts={"draft": "Once\nthere was"}
    )
    entries = (Entry("idea", 0, 0, idea, ()), Entry("draft", 0, 0, draft, ()))
    file = io.StringIO()
    screen = Screen(file=file, width=200, highlight=False, soft_wrap=True)
    screen.print(run_tree(Run(step.trace_id, "tale", entries, ()), [step], full=full))
    return [line.strip("│├└─ ") for line in file.getvalue().splitlines()]


STEP = StepRecord(
    trace_id=str(uuid.UUID(int=1)), event="i", pipeline="tale", stage="teller", does="bot",
    topic="idea", partition=0, offset=0, taken=1000.0, ended=1010.0, worker="w1", deaths=1,
    holds=[Hold(QUEUE, "an earlier event of its run", 998.0, 1000.0), Hold(OUTAGE, "m", 1.0, 3.5)],
    tries=[Try(1000.0, 1002.0, "ModelFailed: 500\n\x1b[2Jof m", 0.5)],
    calls=[
        Call("model", "openai/m", "a-0", 1002.0, 1003.0, True, 100, 40, cost=0.25),
        Call("model", "openai/m", "b-0", 1003.0, 1004.5, input_tokens=7, output_tokens=9, cost=0.5),
        Call("model", "who/knows", "c-0", 1003.0, 1004.0, finish="length", reasoning_tokens=3),
        Call("tool", "look", "d-0", 1.0, 2.0, request='{"q": 1}', answer="x" * 80, error="no"),
    ],
    outputs=[("draft", "d")],
)  # fmt: skip


def test_a_run_shows_what_each_step_waited_for_called_and_cost():
    lines = tree_of(STEP)
    assert lines[1] == (
        "waited 5.0 s, worked 7.0 s; cost $0.7500 and an unknown price;"
        " 1 answer recalled, $0.2500 not paid again"
    )
    assert lines[4:] == [
        "teller  10.00 s  w1  1 worker died in it: a call in flight was lost",
        "waited 2.0 s: for an earlier event of its run",
        "waited 2.5 s: for an outage to end: m",
        "try 1 failed after 2.0 s: ModelFailed: 500…; again after 0.5 s",
        "model openai/m  100 tokens in (40 cached), 0 out  $0.2500  recalled, not paid again",
        "model openai/m  1.50 s  7 tokens in, 9 out  $0.5000",
        "model who/knows  1.00 s  0 tokens in, 0 out (3 reasoning)  unknown  cut off (length)",
        "tool look  1.00 s",
        f'({{"q": 1}}) → {"x" * 72}…',
        "failed: no",
        "draft  +0.00 s  teller",
        "Once…",
    ]
    full = tree_of(STEP, full=True)
    assert "of m; again after 0.5 s" in " ".join(full) and "there was" in full
    assert f'({{"q": 1}}) → {"x" * 80}' in full


def test_a_step_that_wrote_nothing_says_what_it_gave():
    last = msgspec.structs.replace(
        STEP, outputs=[], holds=[], tries=[], calls=[], deaths=0, result="PASS"
    )
    assert "wrote nothing: PASS" in tree_of(last)


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (Step("t", "bot", 935.0), "  bot          … 1:05"),
        (Step("t", "bot", 990.0, 30, 994.0), "  bot          … 0:10  30 tokens, 5.0/s"),
        (
            Step("t", "bot", 990.0, waits_for="m: 502\nnext", until=0.0),
            "  bot          … 0:10  waits for m: 502 next",
        ),
    ],
)
def test_a_step_under_way_is_a_line_with_its_clock_and_tokens_or_what_it_waits_for(step, line):
    assert line_under_way(step, 1000.0).plain == line


def test_a_wait_with_a_known_end_says_until_when():
    until = line_under_way(Step("t", "bot", 990.0, waits_for="m: 502", until=1060.0), 1000.0).plain
    assert "waits until " in until and until.endswith(" for m: 502")
