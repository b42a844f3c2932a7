"""A stage: what becomes of an event, on a real embedded store and without a worker."""

import asyncio

from penstock.project.chains import StageSpec
from penstock.record import events
from penstock.record.events import derive_id, first_event
from penstock.steps import FanOut, Work
from tests.unit.conftest import messages, until
from tests.unit.houses import TRACE, Gate, House, idea, live, take, write

__all__ = ["live"]


# -- an event's life


def test_a_step_makes_the_next_event_and_the_old_one_is_done(live):
    async def body(house: House) -> None:
        event = idea()
        take(house.stage(write), await house.put(event))
        await house.over()
        (output,) = house.outputs()
        assert output.parts == {"idea": "a snail", "draft": "once a snail"}
        assert output.id == derive_id(event.id, "teller", "draft")
        assert (output.trace_id, output.parent_id) == (TRACE, event.id)
        assert (output.pipeline, output.stage, output.attempt) == ("tale", "teller", 1)
        assert output.usage is not None and output.usage.seconds >= 0
        assert messages(house.store, "draft")[0].key == TRACE.encode()
        assert house.done() == [0]

    live(body)


def test_what_the_chain_does_not_carry_is_left_behind(live):
    async def body(house: House) -> None:
        spec = StageSpec(
            name="teller", reads="idea", writes="draft", step="t", carries=["mood"]
        ).within("tale")
        event = first_event("tale", {"idea": "a snail", "mood": "glad"})
        take(house.stage(write, spec), await house.put(event))
        await house.over()
        assert house.outputs()[0].parts == {"mood": "glad", "draft": "once a snail"}

    live(body)


def test_a_fan_out_makes_an_event_for_each_answer_in_their_order(live):
    async def body(house: House) -> None:
        async def three(work: Work) -> FanOut:
            return FanOut(["a", {"b": 1}, "c"])

        event = idea()
        take(house.stage(three), await house.put(event))
        await house.over()
        outputs = house.outputs()
        assert [output.parts["draft"] for output in outputs] == ["a", {"b": 1}, "c"]
        assert [o.id for o in outputs] == [
            derive_id(event.id, "teller", "draft", i) for i in (0, 1, 2)
        ]

    live(body)


def test_a_step_that_answers_none_ends_the_run_there(live):
    async def body(house: House) -> None:
        async def nothing(work: Work) -> None:
            work.show(f"seen {work.event.trace_id}")

        take(house.stage(nothing), await house.put(idea()))
        await house.over()
        assert (house.outputs(), house.done(), house.dead_letters) == ([], [0], [])
        assert house.shown == [f"seen {TRACE}"]

    live(body)


def test_the_event_log_has_the_consume_and_after_the_commit_the_produce(live):
    async def body(house: House) -> None:
        found = await house.put(idea("first"), idea("second"))
        with house.store.writer.connection_lock:  # the disk takes its time
            take(house.stage(write), found[1:])
            await until(lambda: house.event_log.lines and not house.store._open)
            assert [line["event"] for line in house.event_log.lines] == ["consume"]
        await house.over()
        consume, produce = house.event_log.lines
        assert (consume["topic"], consume["partition"], consume["offset"]) == ("idea", 0, 1)
        assert (produce["event"], produce["topic"], produce["offset"]) == ("produce", "draft", 0)
        assert produce["message"] == house.outputs()[0]
        assert consume["trace_id"] == produce["trace_id"] == TRACE
        assert "instructions" not in produce

    live(body)


# -- many events


def test_events_of_one_run_are_processed_in_their_order(live):
    async def body(house: House) -> None:
        gate = Gate()
        stage = house.stage(gate.step)
        take(stage, await house.put(idea("1"), idea("2"), idea("3")))
        await until(lambda: gate.begun)
        gate.let("3", "2")
        await asyncio.sleep(0)
        assert (gate.begun, stage.in_flight) == (["1"], 3)
        gate.let("1")
        await house.over(3)
        assert gate.begun == ["1", "2", "3"]
        assert [output.parts["idea"] for output in house.outputs()] == ["1", "2", "3"]
        assert stage.in_flight == 0

    live(body)


def test_events_of_different_runs_are_processed_at_the_same_time_and_end_in_any_order(live):
    async def body(house: House) -> None:
        gate = Gate()
        runs = [idea(str(n), f"run {n}") for n in range(3)]
        take(house.stage(gate.step), await house.put(*runs))
        await until(lambda: len(gate.begun) == 3)
        gate.let("2")
        await house.over(1)
        await house.store.flush()
        assert house.done() == [2], "the offset says nothing about those below it"
        gate.let("0", "1")
        await house.over(3)
        await house.store.flush()
        assert house.done() == [0, 1, 2]

    live(body)


def test_a_record_that_is_not_under_the_key_of_its_run_is_a_dead_letter_that_says_so(live):
    async def body(house: House) -> None:
        raw = events.dump(idea())
        found = await house.put((None, raw), (b"a run", raw), (TRACE.upper().encode(), raw))
        take(house.stage(write), found)
        await house.over(3)
        messages = {dead_letter.offset: dead_letter.message for dead_letter in house.dead_letters}
        needs = f"and its event the trace_id {TRACE}: a record's key is the trace_id"
        assert messages[0].startswith(f"the record has no key, {needs}")
        assert messages[1].startswith(f"the record has the key 'a run', {needs}")
        assert messages[2].startswith(f"the record has the key '{TRACE.upper()}', {needs}")

    live(body)


def test_no_more_are_taken_than_the_limit_and_the_broker_allow(live):
    async def body(house: House) -> None:
        gate = Gate()
        stage = house.stage(gate.step, limit=2)
        found = await house.put(*[idea(str(n), f"run {n}") for n in range(2)])
        for message in found:
            await stage._admit()
            stage._take(message)
        admitted = asyncio.create_task(stage._admit())
        await until(lambda: len(gate.begun) == 2)
        assert not admitted.done()
        gate.let("1")
        await asyncio.wait_for(admitted, 5)
        for room in (house.store.room, house.event_log.room):
            room.clear()
            admitted = asyncio.create_task(stage._admit())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not admitted.done()
            room.set()
            await asyncio.wait_for(admitted, 5)
        gate.let("0")
        await house.over(2)

    live(body)


def test_an_event_that_is_delivered_again_joins_its_flight(live):
    async def body(house: House) -> None:
        gate = Gate()
        stage = house.stage(gate.step)
        found = await house.put(idea("1"))
        take(stage, found)
        await until(lambda: gate.begun)
        take(stage, await house.put())
        take(stage, await house.put())
        assert stage.in_flight == 1
        gate.let("1")
        await house.over()
        await house.store.flush()
        assert (gate.begun, len(house.outputs()), house.done()) == (["1"], 1, [0])

    live(body)


def test_an_event_that_is_finished_is_not_run_again(live):
    async def body(house: House) -> None:
        gate = Gate()
        gate.let("1")
        stage = house.stage(gate.step)
        found = await house.put(idea("1"))
        take(stage, found)
        take(stage, found)
        await house.over()
        take(stage, found)
        assert stage.in_flight == 0
        take(house.stage(gate.step), found)  # nor by the stage of the next worker
        await asyncio.sleep(0)
        assert (gate.begun, len(house.outputs())) == (["1"], 1)

    live(body)


def test_two_stages_that_read_one_topic_each_finish_for_themselves(live):
    async def body(house: House) -> None:
        other = StageSpec(name="critic", reads="idea", writes="draft", step="c").within("tale")
        found = await house.put(idea())
        take(house.stage(write), found)
        await house.over(1)
        take(house.stage(write, other), found)
        await house.over(2)
        assert {output.stage for output in house.outputs()} == {"teller", "critic"}

    live(body)


# -- the end


def test_an_event_that_is_cancelled_stays_undone_and_is_taken_up_again(live):
    async def body(house: House) -> None:
        gate = Gate()
        stage = house.stage(gate.step)
        found = await house.put(idea("1"), idea("2"), idea("other", "other run"))
        take(stage, found)
        await until(lambda: len(gate.begun) == 2)
        assert await stage.drain(0) == 3, "the event that waits for the first counts too"
        assert (stage.in_flight, house.done(), house.dead_letters) == (0, [], [])
        again = Gate()
        again.let("1", "2", "other")
        take(house.stage(again.step), found)
        await house.over(3)
        assert sorted(again.begun) == ["1", "2", "other"]

    live(body)


def test_draining_waits_for_what_is_in_flight_and_takes_nothing_new(live):
    async def body(house: House) -> None:
        gate = Gate()
        stage = house.stage(gate.step)
        found = await house.put(idea("1"), idea("2"), idea("3", "another run"))
        take(stage, found[:2])
        await until(lambda: gate.begun)
        draining = asyncio.create_task(stage.drain(5))
        await asyncio.sleep(0)
        take(stage, found[2:])
        assert stage.in_flight == 2
        gate.let("1", "2", "3")
        assert await draining == 0
        await house.over(1)
        await house.store.flush()
        # The second event of the run had not begun, and comes again.
        assert (gate.begun, house.done()) == (["1"], [0])

    live(body)


def test_an_idle_stage_is_drained_at_once(live):
    async def body(house: House) -> None:
        assert await house.stage(write).drain(60) == 0

    live(body)


def test_an_event_that_is_let_go_before_its_step_began_leaves_nothing_behind(live):
    async def body(house: House) -> None:
        stage = house.stage(write)
        found = await house.put(idea())
        take(stage, found)
        assert stage.in_flight == 1
        assert await stage.release(()) == 1, "the loop had no turn in between"
        assert stage.in_flight == 0
        take(stage, found)
        await house.over()
        assert house.done() == [0]

    live(body)


def test_a_stage_that_is_here_for_another_pipeline_takes_nothing(live):
    async def body(house: House) -> None:
        stage = house.stage(write)
        stage.idle = True
        take(stage, await house.put(idea()))
        assert stage.in_flight == 0 and house.done() == []

    live(body)
