"""What an agent is told and given, when its card leaves that to the run."""

import pathlib
from typing import Any

import pytest

from app.cards import Card, Front
from app.errors import StepFailed
from app.events import first_event
from app.prompts import given_parts, told_by, write_prompt

EVENT = first_event(
    "p", {"job": {"tone": "Be kind.", "ask": "Why?", "more": ""}, "style": "Short."}
)


def card(**front: Any) -> Card:
    return Card(
        name="c", front=Front(**front), common="", tasks={}, hash="", file=pathlib.Path("c.md")
    )


def test_instructions_come_from_a_part_or_from_a_field_of_what_the_stage_reads():
    assert told_by(EVENT, "job", card(instructions_from="tone"), "") == "Be kind."
    assert told_by(EVENT, "job", card(instructions_from="style"), "You.") == "You.\n\nShort."
    assert told_by(EVENT, "job", card(), "You.") == "You."


@pytest.mark.parametrize("name", ["tune", "more", "job"])
def test_a_run_without_the_instructions_that_the_card_counts_on_fails_before_a_call(name):
    with pytest.raises(StepFailed, match=f"instructions from '{name}'.* nor in 'job'"):
        told_by(EVENT, "job", card(instructions_from=name), "")


def test_an_agent_is_given_what_its_card_names_in_that_order():
    parts = given_parts(EVENT, "job", card(given=["style", "more", "ask"]))
    assert write_prompt(parts) == "# style\n\nShort.\n\n# ask\n\nWhy?"
    assert given_parts(EVENT, "job", card()) is EVENT.parts
    with pytest.raises(StepFailed, match="given none, and the event has none"):
        given_parts(EVENT, "job", card(given=["none"]))
