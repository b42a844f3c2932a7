"""What an agent is told and given, when its card leaves that to the run."""

import asyncio
import pathlib
from typing import Any, cast

import pytest

from penstock.errors import StepFailed
from penstock.project.cards import Card, Front, Recall
from penstock.project.documents import Document
from penstock.record.events import first_event
from penstock.worker.prompts import given_parts, instructions_for, look_up, write_prompt

EVENT = first_event(
    "p", {"job": {"tone": "Be kind.", "ask": "Why?", "more": ""}, "style": "Short."}
)


def card(**front: Any) -> Card:
    document = Document(pathlib.Path("c.md"), "")
    return Card(name="c", front=Front(**front), common="", tasks={}, hash="", document=document)


def test_instructions_come_from_a_part_or_from_a_field_of_what_the_stage_reads():
    assert instructions_for(EVENT, "job", card(instructions_from="tone"), "") == "Be kind."
    assert (
        instructions_for(EVENT, "job", card(instructions_from="style"), "You.") == "You.\n\nShort."
    )
    assert instructions_for(EVENT, "job", card(), "You.") == "You."


@pytest.mark.parametrize("name", ["tune", "more", "job"])
def test_a_run_without_the_instructions_that_the_card_counts_on_fails_before_a_call(name):
    with pytest.raises(StepFailed, match=f"instructions from '{name}'.* nor in 'job'"):
        instructions_for(EVENT, "job", card(instructions_from=name), "")


def test_an_agent_is_given_what_its_card_names_in_that_order():
    parts = given_parts(EVENT, "job", card(given=["style", "more", "ask"]))
    assert write_prompt(parts) == "# style\n\nShort.\n\n# ask\n\nWhy?"
    assert given_parts(EVENT, "job", card()) is EVENT.parts
    with pytest.raises(StepFailed, match="given none, and the event has none"):
        given_parts(EVENT, "job", card(given=["none"]))


class Work:
    """As much of a step's work as a look into the memory needs."""

    def __init__(self, *notes: tuple[str, str, str]) -> None:
        self.event = EVENT
        self.asked: list[Any] = []
        self.notes = [
            {"kind": kind, "task": task, "lesson": lesson, "score": 0.512}
            for kind, task, lesson in notes
        ]

    async def recall(self, *asked: Any) -> list[dict[str, Any]]:
        self.asked.append(asked)
        return self.notes


def told(work: Work, **recall: Any) -> dict[str, Any]:
    return asyncio.run(look_up(Recall(**recall), cast(Any, work), "job"))


def test_lessons_are_those_about_the_parts_that_the_card_names():
    work = Work(("failure", "Echo\nPrint it.", "no newline"), ("success", "Twice", "print(2 * x)"))
    assert told(work, about=["ask", "style", "nothing"], kinds=["failure"], limit=2) == {
        "lessons": "- failure (alike by 0.51), Echo: no newline\n"
        "- success (alike by 0.51), Twice: print(2 * x)"
    }
    assert work.asked == [("Why?\nShort.", ["failure"], 2)]


def test_without_a_name_the_agent_is_told_the_titles_of_the_latest_notes():
    work = Work(("failure", "Echo\nPrint it.", "no newline"))
    assert told(work, under="made before") == {"made before": "- Echo"}
    assert work.asked == [(None, ["failure", "success", "pattern"], 3)]
    assert told(Work(), under="made before") == {}, "no heading over nothing"
