"""Outputs: what an answer becomes, and what is told of the agent that gave it."""

from typing import Any

import msgspec

from penstock.project.chains import StageSpec
from penstock.record.events import Event, Usage, dump, first_event
from penstock.settings import Settings
from penstock.worker.outputs import make_outputs
from penstock.worker.work import Answer

KEYS = {"name": "coder", "reads": "task", "agent": "coder", "again": "fix", "writes": "code"}


def coder(telemetry: str | None = "activity", **keys: Any) -> StageSpec:
    """The coder's stage, with other `keys`; None leaves one out."""
    made = {key: value for key, value in {**KEYS, **keys}.items() if value is not None}
    return StageSpec.model_validate(made).within("mesh", telemetry)


CODER = coder()
TASK = first_event("mesh", {"task": "Echo"})
USED = Usage(model="offline/storyteller", output_tokens=7)


def answer(value: Any = "print(1)", thinking: str = "Hm.") -> Answer:
    return Answer([value], USED, "coder@abc", "You write.", thinking)


def outputs(spec: StageSpec, event: Event, made: Answer) -> dict[str, Event]:
    found = make_outputs(spec, event, made, 2, Settings())
    for _, output, raw in found:
        assert raw == dump(output)
    assert len({output.id for _, output, _ in found}) == len(found)
    return {topic: output for topic, output, _ in found}


def test_an_agents_answer_goes_on_and_what_it_did_is_reported_beside_it():
    made = outputs(CODER, TASK, answer())
    assert made.keys() == {"activity", "code"}
    assert made["code"].parts == {"task": "Echo", "code": "print(1)"}
    report = made["activity"]
    assert report.parts == {
        "activity": {
            "kind": "agent",
            "agent": "coder",
            "task": None,
            "stage": "coder",
            "reads": "task",
            "thinking": "Hm.",
            "usage": msgspec.to_builtins(USED),
        }
    }
    assert (report.trace_id, report.parent_id) == (TASK.trace_id, TASK.id)
    # What was used is counted once.
    assert (made["code"].usage, report.usage) == (USED, None)
    assert (report.card, report.attempt) == ("coder@abc", 2)
    assert outputs(CODER, TASK, answer())["activity"].id == report.id, (
        "the same work, the same event"
    )


def test_what_was_thought_is_no_part_of_the_run():
    assert "Hm." not in dump(outputs(CODER, TASK, answer())["code"]).decode()


def test_an_agent_that_is_asked_again_reports_the_task_of_that():
    event = first_event("mesh", {"task": "Echo", "code": "print(2)"})
    made = outputs(CODER, event, answer())
    assert made["activity"].parts["activity"]["task"] == "fix"
    assert made["code"].parts["code"] == "print(1)"
    first = outputs(coder(again=None, task="sketch"), event, answer())
    assert first["activity"].parts["activity"]["task"] == "sketch"


def test_nothing_is_reported_without_telemetry_by_steps_and_by_who_writes_there_anyhow():
    assert outputs(coder(None), TASK, answer()).keys() == {"code"}
    assert outputs(CODER, TASK, Answer(["x"], USED)).keys() == {"code"}, "no card: nobody was asked"
    prose = coder(writes="activity")
    assert outputs(prose, TASK, answer("I see."))["activity"].parts["activity"] == "I see."


def test_an_agent_at_the_end_of_its_run_is_reported_too():
    assert outputs(coder(writes=None), TASK, answer()).keys() == {"activity"}


def test_a_way_back_carries_its_rounds_and_ends():
    ways = {"FAIL": {"writes": "task", "at_most": 2, "then": "end"}, "PASS": {"writes": "end"}}
    spec = coder(
        agent=None, again=None, step="run", writes=None, part="verdict", by="verdict", outcomes=ways
    )
    event, gone = TASK, []
    for _ in range(3):
        ((topic, event),) = outputs(spec, event, Answer([{"verdict": "FAIL"}], USED)).items()
        gone.append((topic, event.rounds))
    assert gone == [
        ("task", {"coder/FAIL": 1}),
        ("task", {"coder/FAIL": 2}),
        ("end", {"coder/FAIL": 2}),
    ]
    assert event.parts == {"task": "Echo", "verdict": {"verdict": "FAIL"}}


def test_a_way_back_that_is_not_gone_again_is_said_in_the_event_and_in_those_after_it():
    fail = {"writes": "task", "at_most": 3, "while_new": "code.text", "then": "end"}
    spec = coder(
        agent=None, again=None, step="run", writes=None, part="verdict", by="verdict",
        outcomes={"FAIL": fail},
    )  # fmt: skip
    event = first_event("mesh", {"task": "Echo", "code": {"text": "x"}})
    failed = Answer([{"verdict": "FAIL"}], USED)
    back = outputs(spec, event, failed)["task"]
    assert (back.ended, len(back.seen["coder/FAIL"])) == ("", 1)
    end = outputs(spec, back, failed)["end"]
    assert end.ended == "code.text is the same as in round 1"
    assert outputs(coder(None, reads="end"), end, answer())["code"].ended == end.ended
