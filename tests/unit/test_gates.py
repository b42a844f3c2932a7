"""Gates: a call waits at each, and each is told what came of it."""

import asyncio
from typing import Any

import pytest

from penstock.conditions import DOWN, UP, Condition
from penstock.errors import (
    ModelBusy,
    ModelFailed,
    ModelLocked,
    ModelRefused,
    ModelUnavailable,
    Unavailable,
)
from penstock.models.gate import DOWN_AFTER, Gates, Outage
from penstock.signals import Signals
from tests.unit.conftest import run_leaping


class Watched:
    """A gate that anybody may pass, and what it was told."""

    error: Unavailable | None = None

    def __init__(self, heard: list[str], closed: bool = False) -> None:
        self.heard = heard
        self.closed = closed

    @property
    def condition(self) -> Condition:
        return Condition("model", DOWN if self.closed else UP, "watched")

    async def acquire(self) -> None:
        self.heard.append("acquired")
        await asyncio.sleep(0)

    def succeeded(self, began: float, timeout_s: float = 0.0) -> None:
        self.heard.append("succeeded")

    def failed(self, error: Unavailable, began: float) -> bool:
        self.heard.append("failed")
        return self.closed

    def release(self) -> None:
        self.heard.append("released")


class WatchedGates(Gates):
    """Two gates at everything."""

    def __init__(self, closed: bool = False) -> None:
        super().__init__(Signals())
        self.heard: tuple[list[str], list[str]] = ([], [])
        self.both = [Watched(self.heard[0]), Watched(self.heard[1], closed)]

    def of(self, what: str, name: str, at_once: int | None = None) -> Any:
        return self.both


async def call(gates: Gates, error: BaseException | None = None, **options: Any) -> None:
    async with gates.call("model", "server/m", **options):
        if error is not None:
            raise error


def test_a_call_passes_every_gate_and_each_hears_of_its_answer():
    gates = WatchedGates()
    asyncio.run(call(gates))
    # It looks once more at those that it passed before it waited at the last.
    assert gates.heard == (["acquired", "acquired", "succeeded"], ["acquired", "succeeded"])


def test_a_refusal_is_an_answer():
    gates = WatchedGates()
    with pytest.raises(ModelRefused):
        asyncio.run(call(gates, ModelRefused("no")))
    assert [heard[-1] for heard in gates.heard] == ["succeeded"] * 2


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("kind", [Unavailable, ModelUnavailable, ModelBusy, ModelLocked])
def test_what_is_away_says_nothing_about_the_event_and_one_call_that_failed_does(kind, closed):
    gates = WatchedGates(closed)
    for error, counts in ((kind("away"), False), (ModelFailed("500"), True)):
        with pytest.raises(Unavailable) as caught:
            asyncio.run(call(gates, error))
        assert caught.value.counts is counts and caught.value.gated is closed
    assert gates.heard[1] == ["acquired", "failed"] * 2


def test_an_error_is_explained_before_it_is_counted_and_what_it_means_is_raised():
    gates = WatchedGates()
    odd, meant = ConnectionError("reset"), Unavailable("away")
    meant.counts = False
    with pytest.raises(Unavailable) as caught:
        asyncio.run(call(gates, odd, explain=lambda error: meant))
    assert caught.value is meant and meant.__cause__ is odd
    assert not meant.counts, "whoever explains it knows that it says nothing about the event"
    assert gates.heard[0][-1] == "failed"


def test_a_caller_that_is_cancelled_lets_go_of_the_gates_that_it_has():
    async def main() -> None:
        gates = WatchedGates()
        calling = asyncio.create_task(call(gates))
        await asyncio.sleep(0)
        calling.cancel()  # at the first gate
        await asyncio.wait([calling])
        assert gates.heard == (["acquired", "released"], ["released"])
        calling = asyncio.create_task(call(gates))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        calling.cancel()  # at the second
        await asyncio.wait([calling])
        assert gates.heard[0] == ["acquired", "released"] * 2

    asyncio.run(main())


def test_a_call_that_is_cancelled_says_nothing_about_what_it_called():
    gates = WatchedGates()
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(call(gates, asyncio.CancelledError()))
    assert [heard[-1] for heard in gates.heard] == ["released"] * 2


def test_each_thing_has_gates_of_its_own_from_its_first_call_on():
    async def main() -> None:
        gates = Gates(Signals(), lambda: 0.5)
        for _ in range(DOWN_AFTER):
            with pytest.raises(Unavailable):
                await call(gates, Unavailable("away"))
        async with gates.call("history", "a file"):
            assert [(one.what, one.state) for one in gates.conditions] == [
                ("model", DOWN),
                ("history", UP),
            ]
        _, outage, _ = gates.of("model", "server/m")
        assert isinstance(outage, Outage) and outage.is_down
        started = asyncio.get_running_loop().time()
        await call(gates)
        assert asyncio.get_running_loop().time() > started, "it waited to probe"
        assert {one.state for one in gates.conditions} == {UP}

    run_leaping(main())


def test_what_only_a_person_can_mend_is_known():
    async def main() -> None:
        gates = Gates(Signals())
        assert gates.locked is None
        with pytest.raises(ModelLocked):
            await call(gates, ModelLocked("check the key"))
        assert gates.locked is not None and gates.locked.message == "check the key"

    asyncio.run(main())
