"""Processing: how an event ends is decided before anything is written, and knows no broker."""

import asyncio
import types
from collections.abc import Callable
from typing import Any

import msgspec

from penstock.project.chains import StageSpec
from penstock.record import dead_letters, events, steps
from penstock.record.events import Event, derive_id, first_event
from penstock.settings import Settings
from penstock.signals import (
    DeadLettered,
    EventCancelled,
    EventTaken,
    Replayed,
    Signal,
    Signals,
    StepFinished,
)
from penstock.steps import FanOut, Work
from penstock.worker.processing import Ending, Processing
from penstock.worker.work import python_step
from tests.unit.houses import env_of
from tests.unit.test_work import Notebook

TRACE = "0f8fad5b-d9cb-469f-a165-70867728950e"
SPEC = StageSpec(name="teller", reads="idea", writes="draft", step="write").within("tale")


def message(value: Event | bytes | None, key: bytes | None = None) -> Any:
    raw = events.dump(value) if isinstance(value, Event) else value
    if isinstance(value, Event):
        key = key or value.key
    return types.SimpleNamespace(topic="idea", partition=2, offset=7, key=key, value=raw)


def decide(
    step: Callable[[Work], Any], value: Event | bytes | None, **settings: Any
) -> tuple[Ending, list[Signal]]:
    """How the event ends, and what was said on the way."""
    said: list[Signal] = []
    signals = Signals()
    signals.on(Signal, said.append)
    env = env_of(Notebook(), signals, settings=Settings(**settings))
    processing = Processing(SPEC, python_step(step))
    return asyncio.run(processing.process(message(value), env)), said


async def write(work: Work) -> str:
    return f"once {work.parts['idea']}"


async def fail(work: Work) -> str:
    raise ValueError("odd")


def test_an_answer_ends_the_step_with_its_outputs_and_takes_its_journal_with_it():
    event = first_event("tale", {"idea": "a snail"}, TRACE)
    ending, said = decide(write, event)
    ((topic, key, raw),) = ending.outputs
    assert (topic, key) == ("draft", TRACE.encode())
    assert events.load(raw).id == derive_id(event.id, "teller", "draft")
    assert ending.step == f"teller/{event.id}"
    assert isinstance(ending.signal, StepFinished) and ending.signal.event == event
    (taken,) = said
    assert isinstance(taken, EventTaken)
    assert (taken.topic, taken.partition, taken.offset) == ("idea", 2, 7)


def test_where_the_outputs_stand_is_known_to_the_signal_when_they_do():
    async def two(work: Work) -> FanOut:
        return FanOut(["a", "b"])

    ending, _ = decide(two, first_event("tale", {"idea": "a snail"}, TRACE))
    finished = ending.signal.at([(2, 5), (2, 6)])
    assert isinstance(finished, StepFinished)
    assert finished.positions == [(2, 5), (2, 6)] and len(finished.outputs) == 2


def test_what_is_raised_is_a_dead_letter_that_keeps_the_journal():
    event = first_event("tale", {"idea": "a snail"}, TRACE)
    ending, _ = decide(fail, event)
    ((topic, key, raw),) = ending.outputs
    assert (topic, key, ending.step) == ("penstock-dead-letters", TRACE.encode(), None)
    assert isinstance(ending.signal, DeadLettered)
    assert dead_letters.load(raw) == ending.signal.dead_letter
    assert ending.signal.dead_letter.message == "ValueError: odd"


def test_a_record_that_is_no_event_is_a_dead_letter_and_is_never_taken():
    ending, said = decide(write, b"hello")
    assert isinstance(ending.signal, DeadLettered) and said == []
    assert ending.signal.trace_id == "idea/2/7"


def test_a_replay_for_another_stage_ends_without_a_step():
    event = msgspec.structs.replace(first_event("tale", {"idea": "a snail"}, TRACE), replay=2)
    _, said = decide(write, event)
    assert [type(one) for one in said] == [Replayed, EventTaken]


def test_a_cancelled_run_takes_its_journal_with_it_as_far_as_it_can_be_read():
    processing = Processing(SPEC, python_step(write))
    event = first_event("tale", {"idea": "a snail"}, TRACE)
    env = env_of(Notebook())
    ended = processing.cancelled(message(event), env)
    (record,) = steps.load(steps.joined([ended.record]))
    assert (record.trace_id, record.stage, record.end) == (TRACE, "teller", steps.CANCELLED)
    expected = Ending(EventCancelled(processing.label, TRACE), step=f"teller/{event.id}")
    assert msgspec.structs.replace(ended, record=b"") == expected
    unread = processing.cancelled(message(b"hello", key=b"a run"), env)
    assert unread == Ending(EventCancelled(processing.label, "a run"))
