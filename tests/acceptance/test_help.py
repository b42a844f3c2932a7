"""Help for people: every command with a line, on both command lines."""

import pytest

from tests.acceptance.places import Place, side_by_side
from tests.programs import FAUST, PENSTOCK

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


@pytest.mark.parametrize("program", [PENSTOCK, FAUST], ids=["penstock", "faust"])
def test_help_lists_the_commands_with_a_line_each(place: Place, program: tuple[str, ...]) -> None:
    text = place.run("--help", program=program).out
    listed = dict(
        line.strip().split(None, 1)
        for line in text[text.index("Commands:") :].splitlines()[1:]
        if line.strip()
    )
    assert listed.keys() >= OURS | {"agents"}
    assert all(about.endswith((".", "...")) for name, about in listed.items() if name in OURS)


def test_each_command_explains_itself(place: Place) -> None:
    screens = side_by_side(sorted(OURS), lambda command: place.show(command, "--help"))
    for command, screen in screens.items():
        assert screen.ended().out.startswith(f"Usage: penstock {command}")


def test_an_unknown_command_is_one_sentence(place: Place) -> None:
    assert "No such command 'stroy'" in place.run("stroy", code=2).err


def test_settings_are_listed_with_their_defaults(place: Place) -> None:
    text = place.run("settings").out
    assert "PENSTOCK_PARTITIONS" in text and "(default: 4)" in text
    names = [row["name"] for row in place.run("settings", "--json").json()]
    assert "PENSTOCK_BROKER" in names and len(names) == len(set(names))
