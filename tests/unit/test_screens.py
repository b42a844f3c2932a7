"""Screens: text of models and of others is shown as text and does nothing to the terminal."""

import io
import logging

import msgspec
import pytest
from rich.text import Text
from rich.tree import Tree

from penstock.commands.screens import Screen, line_under_way, run_tree
from penstock.record.events import first_event
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
