"""Help for people: every command with a line, on both command lines."""

import re
import sys

import pytest

from tests.acceptance.homes import Home, side_by_side
from tests.programs import FAUST

OURS = {
    "check",
    "cancel",
    "dead-letters",
    "doctor",
    "new",
    "rerun",
    "run",
    "settings",
    "story",
    "submit",
    "trace",
    "worker",
}


#: The sections of our own help, in their order.
SECTIONS = ["Runs:", "Jobs:", "Projects:", "Operations:"]


def test_help_lists_our_commands_in_sections_and_nobody_elses(home: Home) -> None:
    lines = home.run("--help").out.splitlines()
    assert [line for line in lines if line in SECTIONS] == SECTIONS
    listed = {
        line.split()[0] for line in lines[lines.index("Runs:") :] if re.match(r"  [a-z]", line)
    }
    assert listed >= OURS and not listed & {"agents", "models", "tables", "send", "reset"}
    assert "Welcome" not in "\n".join(lines)


def test_on_fausts_command_line_ours_stand_beside_its_own(home: Home) -> None:
    text = home.run("--help", program=FAUST).out
    listed = dict(
        line.strip().split(None, 1)
        for line in text[text.index("Commands:") :].splitlines()[1:]
        if line.strip()
    )
    assert listed.keys() >= OURS | {"agents"}
    assert all(about.endswith((".", "...")) for name, about in listed.items() if name in OURS)


def test_a_shell_completes_commands_and_their_options(home: Home) -> None:
    for words, index, expected in (
        ("penstock st", "1", {"status", "story", "stress"}),
        ("penstock submit --w", "2", {"--wait"}),
    ):
        found = home.run(COMP_WORDS=words, COMP_CWORD=index, _PENSTOCK_COMPLETE="bash_complete").out
        assert {line.partition(",")[2] for line in found.splitlines()} == expected
    assert "complete" in home.run(_PENSTOCK_COMPLETE="bash_source").out


@pytest.mark.parametrize("arguments", [("--help",), ("settings",), ("status",), ("lag",)])
def test_a_command_that_only_reads_imports_neither_faust_nor_the_sdk(
    home: Home, arguments: tuple[str, ...]
) -> None:
    code = (
        "import sys; from penstock.commands.program import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'faust', 'agents', 'openai', 'aiokafka', 'genai_prices'} & {*sys.modules}))"
    )
    said = home.run(*arguments, program=(sys.executable, "-c", code)).out
    assert said.splitlines()[-1] == "[]"


def test_a_worker_imports_the_sdk_for_the_first_event_of_an_agent(home: Home) -> None:
    code = (
        "import atexit, sys; from penstock.commands.program import main\n"
        "atexit.register(lambda: print('imported:', 'agents' in sys.modules))\n"
        "main()"
    )
    with home.worker((sys.executable, "-c", code), PENSTOCK_SEED="0") as running:
        assert running.stop() == 0
    assert running.text().splitlines()[-1] == "imported: False"
    (trace_id,) = home.submit("A shy volcano")
    with home.worker((sys.executable, "-c", code), PENSTOCK_SEED="0") as running:
        home.wait_for(trace_id)
        assert running.stop() == 0
    assert running.text().splitlines()[-1] == "imported: True"


def test_a_worker_says_what_it_does_in_ten_lines_to_ready_and_five_to_stop(home: Home) -> None:
    with home.worker(PENSTOCK_SEED="0") as running:
        before = running.text().splitlines()
        assert running.stop() == 0
    lines = running.text().splitlines()
    assert len(before) <= 10 and len(lines) - len(before) <= 5, "\n".join(lines)


def test_each_command_explains_itself(home: Home) -> None:
    screens = side_by_side(sorted(OURS), lambda command: home.show(command, "--help"))
    for command, screen in screens.items():
        assert screen.ended().out.startswith(f"Usage: penstock {command}")


def test_an_unknown_command_is_one_sentence(home: Home) -> None:
    assert "No such command 'stroy'" in home.run("stroy", code=2).err


def test_settings_are_listed_with_their_defaults(home: Home) -> None:
    text = home.run("settings").out
    assert "PENSTOCK_PARTITIONS" in text and "(default: 4)" in text
    names = [row["name"] for row in home.run("settings", "--json").json()]
    assert "PENSTOCK_BROKER" in names and len(names) == len(set(names))
