"""Outages: while a provider is down nobody calls it but one prober, and then everybody."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from penstock.conditions import DOWN, UP, Condition
from penstock.errors import ModelLocked, ModelUnavailable, Unavailable
from penstock.models.gate import DOWN_AFTER, FIRST_PROBE_S, LAST_PROBE_S, Outage
from penstock.signals import ProviderDown, ProviderUp, Signal, Signals
from tests.unit.conftest import run_leaping

AWAY = ModelUnavailable("it does not answer")


def middling() -> float:
    """With this jitter, a pause is exactly as long as it says."""
    return 0.5


def new(jitter: Callable[[], float] = middling, signals: Signals | None = None) -> Outage:
    return Outage("model", "server/m", signals or Signals(), jitter)


def break_down(outage: Outage, error: Unavailable = AWAY) -> None:
    for _ in range(DOWN_AFTER):
        outage.failed(error)


def now() -> float:
    return asyncio.get_running_loop().time()


class Caller:
    """A task that asks the provider once: it is `asking` from its passing to its answer."""

    def __init__(self, outage: Outage) -> None:
        self.outage = outage
        self.asked_at: float | None = None
        self.asked = asyncio.Event()
        self._answer: asyncio.Future[Unavailable | None] = asyncio.Future()
        self.task = asyncio.create_task(self._call())

    async def _call(self) -> None:
        await self.outage.acquire()
        self.asked_at = now()
        self.asked.set()
        try:
            error = await self._answer
        except asyncio.CancelledError:
            self.outage.release()
            raise
        if error is None:
            self.outage.succeeded()
        else:
            self.outage.failed(error)

    @property
    def asking(self) -> bool:
        return self.asked.is_set() and not self.task.done()

    async def gets(self, error: Unavailable | None) -> None:
        self._answer.set_result(error)
        await self.task


async def callers(outage: Outage, count: int) -> list[Caller]:
    made = [Caller(outage) for _ in range(count)]
    await asyncio.sleep(0)
    return made


async def asking(group: list[Caller]) -> Caller:
    """The one of them that asks, once it does."""
    if not any(caller.asking for caller in group):
        new_ones = [caller for caller in group if not caller.asked.is_set()]
        waiting = [asyncio.create_task(caller.asked.wait()) for caller in new_ones]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
    (one,) = [caller for caller in group if caller.asking]
    return one


def leaping(body: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await body()

    run_leaping(main())


def test_who_asks_a_provider_that_is_up_waits_for_nothing():
    async def body() -> None:
        outage, start = new(), now()
        await outage.acquire()
        assert now() == start and not outage.is_down

    leaping(body)


def test_a_provider_is_down_after_three_failures_in_a_row():
    async def body() -> None:
        outage = new()
        assert [outage.failed(AWAY) for _ in range(3)] == [False, False, True]
        assert outage.is_down and outage.error is AWAY

    leaping(body)


def test_an_answer_between_failures_keeps_it_up():
    async def body() -> None:
        outage = new()
        for _ in range(5):
            assert not outage.failed(AWAY)
            assert not outage.failed(AWAY)
            outage.succeeded()
        assert not outage.is_down

    leaping(body)


def test_a_key_that_is_refused_is_an_outage_at_once():
    async def body() -> None:
        outage = new()
        assert outage.failed(ModelLocked("no such key"))
        assert outage.is_down

    leaping(body)


def test_while_it_is_down_one_asks_and_the_others_wait_for_the_answer():
    async def body() -> None:
        outage = new()
        break_down(outage)
        start = now()
        group = await callers(outage, 5)
        prober = await asking(group)
        assert prober.asked_at is not None
        assert prober.asked_at - start == pytest.approx(FIRST_PROBE_S)
        await prober.gets(None)
        assert not outage.is_down and outage.error is None
        for caller in group:
            if caller is not prober:
                await caller.asked.wait()

    leaping(body)


def test_the_pause_between_two_probes_doubles_up_to_a_minute():
    async def body() -> None:
        outage = new()
        break_down(outage)
        pauses, last = [], now()
        for _ in range(9):
            (prober,) = await callers(outage, 1)
            await asking([prober])
            pauses.append(now() - last)
            await prober.gets(AWAY)
            last = now()
        expected = [min(LAST_PROBE_S, FIRST_PROBE_S * 2**n) for n in range(9)]
        assert pauses == pytest.approx(expected)
        assert expected[-1] == LAST_PROBE_S
        (prober,) = await callers(outage, 1)
        await asking([prober])
        await prober.gets(None)
        break_down(outage)
        start = now()
        (prober,) = await callers(outage, 1)
        await asking([prober])
        assert now() - start == pytest.approx(FIRST_PROBE_S), "a new outage begins anew"

    leaping(body)


def test_a_probe_that_fails_makes_it_the_turn_of_another():
    async def body() -> None:
        outage = new()
        break_down(outage)
        group = await callers(outage, 3)
        first = await asking(group)
        await first.gets(AWAY)
        second = await asking(group)
        assert second is not first

    leaping(body)


def test_calls_that_were_under_way_and_fail_late_do_not_lengthen_the_pause():
    """200 in flight: the pause must not be doubled 197 times before the first probe."""

    async def body() -> None:
        outage = new()
        late = await callers(outage, 200)
        assert all(caller.asking for caller in late)
        start = now()
        for caller in late:
            await caller.gets(AWAY)
        assert outage.is_down
        await asking(await callers(outage, 3))
        assert now() - start == pytest.approx(FIRST_PROBE_S)

    leaping(body)


def test_calls_that_fail_or_leave_late_do_not_let_a_second_prober_through():
    async def body() -> None:
        outage = new()
        late = await callers(outage, DOWN_AFTER + 4)
        for caller in late[:DOWN_AFTER]:
            await caller.gets(AWAY)
        group = await callers(outage, 5)
        failing, leaving = late[DOWN_AFTER:-1], late[-1]
        for caller in failing[1:]:
            await caller.gets(AWAY)
            await asyncio.sleep(0)
        await asking(group)
        await failing[0].gets(AWAY)
        leaving.task.cancel()
        await asyncio.wait([leaving.task])
        await asyncio.sleep(FIRST_PROBE_S * 10)
        assert sum(caller.asking for caller in group) == 1

    leaping(body)


def test_a_late_answer_of_a_call_that_was_under_way_ends_the_outage_for_all_at_once():
    async def body() -> None:
        outage = new()
        (late,) = await callers(outage, 1)
        break_down(outage, ModelUnavailable("busy", retry_after_s=1000))
        group = await callers(outage, 3)
        start = now()
        await late.gets(None)
        await asyncio.gather(*(caller.asked.wait() for caller in group))
        assert now() == start

    leaping(body)


def test_a_prober_that_is_cancelled_leaves_its_turn_to_another():
    async def body() -> None:
        outage = new()
        break_down(outage)
        group = await callers(outage, 2)
        group[0].task.cancel()  # while it waits for the time of the probe
        prober = await asking(group)
        assert prober is group[1]
        prober.task.cancel()  # while it asks
        (third,) = await callers(outage, 1)
        assert await asking([third]) is third

    leaping(body)


def test_the_providers_own_time_is_waited_for():
    async def body() -> None:
        outage = new()
        break_down(outage, ModelUnavailable("busy", retry_after_s=300))
        start = now()
        (prober,) = await callers(outage, 1)
        await asking([prober])
        assert now() - start == pytest.approx(300)

    leaping(body)


def test_probes_of_many_workers_are_scattered():
    async def body() -> None:
        waited = []
        jitters = iter((0.0, 1.0))
        for _ in range(2):
            outage = new(lambda: next(jitters))
            break_down(outage)
            start = now()
            (prober,) = await callers(outage, 1)
            await asking([prober])
            waited.append(now() - start)
        assert waited == pytest.approx([0.75 * FIRST_PROBE_S, 1.25 * FIRST_PROBE_S])

    leaping(body)


def test_an_outage_is_said_once_when_it_begins_and_once_when_it_ends():
    signals, said = Signals(), list[Signal]()
    signals.on(Signal, said.append)

    async def body() -> None:
        outage = new(signals=signals)
        for _ in range(10):
            outage.failed(AWAY)
        outage.succeeded()
        outage.succeeded()

    leaping(body)
    down, up = said
    assert down == ProviderDown("server/m", "it does not answer")
    assert isinstance(up, ProviderUp) and up.name == "server/m"


def test_its_condition_says_which_one_it_is_and_why_it_is_down_since_when():
    async def body() -> None:
        outage = new()
        assert outage.condition == Condition("model", UP, "server/m")
        break_down(outage, ModelUnavailable("no \ud83d room"))
        condition = outage.condition
        assert (condition.what, condition.state) == ("model", DOWN)
        assert condition.reason == "server/m: no ? room" and condition.since is not None

    leaping(body)
