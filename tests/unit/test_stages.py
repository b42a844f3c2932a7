"""The stages of a worker: held, drained and cancelled all at once."""

import asyncio

from penstock.project.chains import StageSpec
from penstock.signals import DrainCutOff, Draining, RunCancelled, Signal, Signals
from penstock.worker.stages import Stages
from tests.unit.conftest import until
from tests.unit.houses import SPEC, TRACE, Gate, House, idea, live, take

__all__ = ["live"]

OTHER = StageSpec(name="critic", reads="idea", writes="draft", step="look").within("tale")


class Both:
    """Two stages that read one topic, and what is said of them."""

    def __init__(self, house: House, drain_s: float = 60.0) -> None:
        self.gate = Gate()
        self.said: list[Signal] = []
        signals = Signals()
        signals.on(Signal, self.said.append)
        self.stages = Stages(signals, drain_s)
        for spec in (SPEC, OTHER):
            self.stages[spec.name] = house.stage(self.gate.step, spec)

    async def take(self, found: list[object], in_flight: int) -> None:
        for stage in self.stages.values():
            take(stage, found)
        await until(lambda: len(self.gate.begun) == in_flight)


def test_a_run_that_is_cancelled_ends_in_every_stage_and_is_known_to_be(live):
    async def body(house: House) -> None:
        both = Both(house)
        await both.take(await house.put(idea("1"), idea("2", "another run")), 4)
        await both.stages.cancel(TRACE.encode())
        assert both.said == [RunCancelled(TRACE, 2)]
        assert both.stages.cancelled == {TRACE.encode()}
        assert [stage.in_flight for stage in both.stages.values()] == [1, 1]
        both.gate.let("2")
        await house.over(2)
        assert house.outputs() and all(o.parts["idea"] == "2" for o in house.outputs())

    live(body)


def test_draining_says_what_it_waits_for_and_what_it_has_cut_off(live):
    async def body(house: House) -> None:
        both = Both(house, drain_s=0)
        await both.take(await house.put(idea("1"), idea("2", "another run")), 4)
        await both.stages.drain()
        assert both.said == [Draining(4, 0), DrainCutOff(4, 0)]
        assert [stage.in_flight for stage in both.stages.values()] == [0, 0]

    live(body)


def test_stages_that_have_nothing_in_flight_are_drained_without_a_word(live):
    async def body(house: House) -> None:
        both = Both(house)
        await both.stages.drain()
        assert both.said == []

    live(body)


def test_what_is_held_takes_nothing_until_it_is_resumed(live):
    async def body(house: House) -> None:
        both = Both(house)
        both.gate.let("1")
        both.stages.hold()
        found = await house.put(idea("1"))
        for stage in both.stages.values():
            take(stage, found)
            assert stage.in_flight == 0 and stage.backlog.is_open()
        both.stages.on_seek()
        both.stages.resume()
        assert not any(stage.backlog.is_open() for stage in both.stages.values())
        await both.take(found, 2)
        await house.over(2)

    live(body)


def test_a_pause_ends_with_what_is_in_flight_or_at_its_limit(live):
    async def body(house: House) -> None:
        both = Both(house)
        await both.take(await house.put(idea("1")), 2)
        await both.stages.pause(0)
        assert sum(stage.in_flight for stage in both.stages.values()) == 2
        pausing = asyncio.create_task(both.stages.pause(60))
        await asyncio.sleep(0)
        both.gate.let("1")
        await pausing
        assert sum(stage.in_flight for stage in both.stages.values()) == 0

    live(body)


def test_what_went_to_other_workers_is_let_go(live):
    async def body(house: House) -> None:
        both = Both(house)
        found = await house.put(idea("1"), idea("2", "another run"))
        await both.take(found, 4)
        assert await both.stages.release({message.tp for message in found}) == 0
        assert await both.stages.release(()) == 4

    live(body)
