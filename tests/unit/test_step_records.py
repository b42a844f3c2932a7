"""Step records: what a step did stands on its topic when the step is finished, and not before."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from penstock.broker.contract import Pipeline, Plan
from penstock.broker.embedded.retention import delete_finished
from penstock.broker.suspects import KilledWorker
from penstock.errors import EventTooLarge, Unavailable
from penstock.record import steps
from penstock.record.events import Event, first_event
from penstock.record.steps import StepRecord
from penstock.steps import Work
from tests.unit.conftest import messages
from tests.unit.houses import SPEC, TRACE, House, live

__all__ = ["live"]

IDEA = first_event("tale", {"idea": "a snail"}, TRACE)
PLAN = Plan("penstock", (Pipeline("tale", "tale.yaml", ("idea", "draft")),), {"idea": ("teller",)})


def records(house: House) -> list[StepRecord]:
    return [
        one
        for message in messages(house.store, PLAN.steps)
        for one in steps.load(message.value or b"")
    ]


async def tale(work: Work) -> str:
    async def look(what: str) -> str:
        return f"seen: {what}"

    return str(await work.call("look", look, "a snail"))


async def run(house: House, step: Callable[[Work], Any], count: int = 1) -> list[StepRecord]:
    """The records of `count` steps over as many events."""
    stage = house.stage(step)
    for message in await house.put(*(IDEA if n == 0 else other(n) for n in range(count))):
        stage._take(message)
    await house.over(count)
    await house.store.flush()
    return records(house)


def other(number: int) -> Event:
    return first_event("tale", {"idea": str(number)}, f"{number:08d}{TRACE[8:]}")


def test_a_step_says_what_it_was_given_what_it_called_and_what_it_made(live):
    async def body(house: House) -> None:
        before = time.time()
        (record,) = await run(house, tale)
        (output,) = house.outputs()
        assert record.id == f"teller/{IDEA.id}~0"
        assert (record.trace_id, record.event, record.pipeline) == (TRACE, IDEA.id, "tale")
        assert (record.stage, record.does, record.end) == ("teller", SPEC.does, steps.DONE)
        assert (record.topic, record.partition, record.offset) == ("idea", 0, 0)
        assert list(map(tuple, record.outputs)) == [("draft", output.id)]
        assert before <= record.taken <= record.ended <= time.time()
        (call,) = record.calls
        assert (call.kind, call.name, call.recalled) == ("function", "look", False)
        assert record.taken <= call.asked <= call.answered <= record.ended
        assert not record.holds and not record.tries and not record.error

    live(body)


def test_steps_that_end_together_share_a_record_of_the_topic(live):
    async def body(house: House) -> None:
        found = await run(house, tale, count=20)
        assert len({one.id for one in found}) == len(found) == 20
        assert len(messages(house.store, PLAN.steps)) < 20

    live(body)


def test_a_try_that_failed_and_what_was_recalled_in_the_next_are_on_the_record(live):
    failing = iter([True, False])

    async def step(work: Work) -> str:
        made = await tale(work)
        if next(failing):
            raise Unavailable("not yet")
        return made

    async def body(house: House) -> None:
        (record,) = await run(house, step)
        (failed,) = record.tries
        assert failed.error == "Unavailable: not yet" and failed.pause_s > 0
        assert [call.recalled for call in record.calls] == [False, True]
        assert len({call.key for call in record.calls}) == 1

    live(body, leaping=True)


def test_a_dead_letter_has_a_record_that_says_why(live):
    async def step(work: Work) -> str:
        raise ValueError("half of a character \udce9 and a secret-of-theirs")

    async def body(house: House) -> None:
        (record,) = await run(house, step)
        assert record.end == steps.DEAD and not record.outputs
        assert record.error == record.tries[-1].error
        assert "\ufffd" in record.error and "[secret]" in record.error

    live(body, openai_api_key="secret-of-theirs")


def test_what_kills_its_worker_or_is_too_large_for_the_broker_has_a_record_too(live):
    async def body(house: House) -> None:
        processing = house.stage(tale)._processing
        (message,) = await house.put(IDEA)
        killed = processing.killed(message, KilledWorker(2), house.env)
        done = await processing.process(message, house.env)
        refused = processing.refused(message, done, EventTooLarge("of 9 bytes"), house.env)
        again = processing.refused(message, refused, EventTooLarge("of 9 bytes"), house.env)
        for ending, calls in ((killed, 0), (refused, 1), (again, 1)):
            (record,) = steps.load(steps.joined([ending.record]))
            assert (record.event, record.end, record.outputs) == (IDEA.id, steps.DEAD, [])
            assert len(record.calls) == calls and record.error

    live(body)


def test_a_step_that_was_cancelled_in_its_middle_says_what_it_had_called(live):
    async def body(house: House) -> None:
        called = asyncio.Event()

        async def step(work: Work) -> str:
            await tale(work)
            called.set()
            await asyncio.Event().wait()
            return "never"

        stage = house.stage(step)
        (message,) = await house.put(IDEA)
        stage._take(message)
        await called.wait()
        assert await stage.cancel(IDEA.key) == 1
        await house.store.flush()
        (record,) = records(house)
        assert record.end == steps.CANCELLED and record.taken < record.ended
        assert [call.name for call in record.calls] == ["look"]

    live(body)


def test_what_a_last_step_gave_is_its_result_be_it_json_or_not(live):
    class Thing:
        def __repr__(self) -> str:
            return "<a thing>"

    async def body(house: House) -> None:
        last = SPEC.__class__(name="teller", reads="idea", step="tell").within("tale")
        for value, text in (({"a": 1}, '{"a":1}'), (Thing(), "<a thing>"), ("x" * 30, "x" * 20)):
            event = first_event("tale", {"idea": text})
            stage = house.stage(lambda work, value=value: value, spec=last)
            *_, message = await house.put(event)
            stage._take(message)
            await house.over(len(house.ended) + 1)
            await house.store.flush()
            assert records(house)[-1].result.startswith(text)

    live(body, record_text=20)


def test_an_event_that_waited_behind_another_of_its_run_says_so(live):
    async def slow(work: Work) -> str:
        await asyncio.sleep(1.0)
        return "told"

    async def body(house: House) -> None:
        stage = house.stage(slow)
        second = first_event("tale", {"idea": "two"}, TRACE, origin="again")
        for message in await house.put(IDEA, second):
            stage._take(message)
        await house.over(2)
        await house.store.flush()
        by_event = {one.event: one for one in records(house)}
        (hold,) = by_event[second.id].holds
        assert hold.kind == "queue" and hold.until > hold.since
        assert not by_event[IDEA.id].holds

    live(body)


@pytest.mark.parametrize("finished", [False, True])
def test_records_go_with_the_last_of_their_runs(live, finished):
    async def body(house: House) -> None:
        await run(house, tale, count=2)
        if not finished:
            await house.put(IDEA)  # a second event of one of the runs, which nobody has taken
        await asyncio.to_thread(delete_finished, house.store, PLAN, time.time() + 60)
        left = {one.trace_id for one in records(house)}
        assert (TRACE in left) is not finished
        assert finished or len(left) == 2

    live(body)
