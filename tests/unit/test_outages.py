"""Outages: what is down is asked by one call now and then, and what is bad holds nobody up."""

import asyncio
import functools
import itertools
from collections.abc import Awaitable, Callable

import pytest

from penstock.conditions import DOWN, UP, Condition
from penstock.errors import (
    ModelBusy,
    ModelFailed,
    ModelLocked,
    ModelUnavailable,
    Unavailable,
)
from penstock.models.gate import FIRST_PROBE_S, LAST_PROBE_S, Outage
from penstock.signals import ProviderDown, ProviderUp, Signal, Signals
from penstock.under_way import UnderWay, step_under_way
from tests.unit.conftest import run_leaping

AWAY = ModelUnavailable("it does not answer")
BAD = ModelFailed("it answered 500")


def middling() -> float:
    """With this jitter, a pause is exactly as long as it says."""
    return 0.5


def new(jitter: Callable[[], float] = middling, signals: Signals | None = None) -> Outage:
    return Outage("model", "server/m", signals or Signals(), jitter)


def fail(outage: Outage, *runs: str, error: Unavailable = AWAY, began: float | None = None) -> bool:
    """A call of each of `runs` has failed; whether it counts as down."""
    down = False
    for run in runs:
        token = step_under_way.set(UnderWay(run, "bot"))
        down = outage.failed(error, now() if began is None else began)
        step_under_way.reset(token)
    return down


def now() -> float:
    return asyncio.get_running_loop().time()


class Caller:
    """A task of the run `run` that asks the provider once: it is `asking` from its passing to its
    answer."""

    def __init__(self, outage: Outage, run: str) -> None:
        self.outage = outage
        self.run = run
        self.asked_at: float | None = None
        self.asked = asyncio.Event()
        self._answer: asyncio.Future[Unavailable | None] = asyncio.Future()
        self.task = asyncio.create_task(self._call())

    async def _call(self) -> None:
        step_under_way.set(UnderWay(self.run, "bot"))
        await self.outage.acquire()
        self.asked_at = now()
        self.asked.set()
        try:
            error = await self._answer
        except asyncio.CancelledError:
            self.outage.release()
            raise
        if error is None:
            self.outage.succeeded(self.asked_at)
        else:
            self.outage.failed(error, self.asked_at)

    @property
    def asking(self) -> bool:
        return self.asked.is_set() and not self.task.done()

    async def gets(self, error: Unavailable | None) -> None:
        self._answer.set_result(error)
        await self.task


async def callers(outage: Outage, *runs: str) -> list[Caller]:
    made = [Caller(outage, run) for run in runs]
    await asyncio.sleep(0)
    return made


async def next_of(group: list[Caller]) -> Caller:
    """The next of them that is let through."""
    new_ones = [caller for caller in group if not caller.asked.is_set()]
    waiting = {asyncio.create_task(caller.asked.wait()): caller for caller in new_ones}
    done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    (one,) = done
    return waiting[one]


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


# -- what is down


@pytest.mark.parametrize("error", [AWAY, BAD])
def test_failures_of_two_runs_with_no_success_between_them_are_an_outage(error):
    async def body() -> None:
        outage = new()
        assert not fail(outage, "one", "one", error=error)
        assert fail(outage, "two", error=error)
        assert outage.is_down and outage.error is error

    leaping(body)


def test_what_was_not_even_reached_is_down_at_once():
    async def body() -> None:
        unreached = ModelUnavailable("refused")
        unreached.unreached = True
        assert fail(new(), "one", error=unreached)

    leaping(body)


def test_one_run_that_finds_it_away_again_and_again_is_enough_where_there_is_no_other():
    async def body() -> None:
        outage = new()
        assert [fail(outage, "one") for _ in range(3)] == [False, False, True]

    leaping(body)


def test_a_key_that_is_refused_is_an_outage_at_once():
    async def body() -> None:
        assert fail(new(), "one", error=ModelLocked("no such key"))

    leaping(body)


# -- what is bad


def test_one_run_that_fails_and_fails_is_no_outage():
    async def body() -> None:
        outage = new()
        for _ in range(20):
            assert not fail(outage, "poison", error=BAD)

    leaping(body)


def test_calls_that_were_taken_and_took_too_long_are_no_outage_however_many_runs_made_them():
    async def body() -> None:
        outage, slow = new(), ModelFailed("'timeout_s' in bot.md is the limit")
        slow.timed_out = True
        for run in "abcdef":
            assert not fail(outage, run, error=slow)
        assert not fail(outage, "g", error=BAD), "and they are no evidence beside others"
        assert fail(outage, "h", error=BAD)
        assert fail(outage, "i", error=slow), "nor that it is up"

    leaping(body)


def test_an_answer_between_failures_keeps_it_up():
    async def body() -> None:
        outage = new()
        for _ in range(5):
            assert not fail(outage, "one", error=BAD)
            outage.succeeded(now())
            assert not fail(outage, "two", error=BAD)
            outage.succeeded(now())

    leaping(body)


def test_an_answer_to_a_call_that_left_before_the_failures_proves_nothing():
    async def body() -> None:
        outage, began = new(), now()
        await asyncio.sleep(1)
        fail(outage, "one", error=BAD)
        outage.succeeded(began)
        assert fail(outage, "two", error=BAD)
        outage.succeeded(began)
        assert outage.is_down

    leaping(body)


def test_answers_that_cannot_be_read_are_no_outage_however_many_runs_they_are_for():
    unreadable = ModelFailed("it gave an answer that cannot be read")
    unreadable.answered = True

    async def main() -> None:
        outage = new()
        assert not fail(outage, "a", "b", "c", "d", error=unreadable)
        fail(outage, "a", "b")
        assert outage.is_down
        assert not fail(outage, "c", error=unreadable) and not outage.is_down, "it is there"

    asyncio.run(main())


def test_a_busy_provider_is_there():
    async def body() -> None:
        outage = new()
        for run in "abcdefgh":
            assert not fail(outage, run, error=ModelBusy("429"))
        assert fail(outage, "a", "b")
        await asyncio.sleep(1)
        assert not fail(outage, "c", error=ModelBusy("429")) and not outage.is_down

    leaping(body)


# -- while it is down


def test_while_it_is_down_one_asks_and_the_others_wait_for_the_answer():
    async def body() -> None:
        outage = new()
        fail(outage, "x", "y")
        start = now()
        group = await callers(outage, *"abcde")
        probe = await next_of(group)
        assert probe.asked_at is not None
        assert probe.asked_at - start == pytest.approx(FIRST_PROBE_S)
        await probe.gets(None)
        assert not outage.is_down and outage.error is None
        for caller in group:
            await caller.asked.wait()

    leaping(body)


def test_a_probe_may_ask_again_whether_it_may():
    async def body() -> None:
        outage = new()
        fail(outage, "x", "y")
        await outage.acquire()
        asked = now()
        await outage.acquire()
        assert now() == asked
        outage.succeeded(now())
        assert not outage.is_down

    leaping(body)


def test_each_probe_is_another_event_than_the_last_and_they_are_ten_seconds_apart_at_most():
    async def body() -> None:
        outage = new()
        fail(outage, "x", "y")
        last, gaps, runs = now(), [], []
        group = await callers(outage, "poison", "good", "better")
        for _ in range(9):
            probe = await next_of(group)
            gaps.append(now() - last)
            last = now()
            runs.append(probe.run)
            await probe.gets(AWAY)
            group = [*(one for one in group if one is not probe), *await callers(outage, probe.run)]
        assert gaps == pytest.approx([min(LAST_PROBE_S, FIRST_PROBE_S * 2**n) for n in range(9)])
        assert all(one != other for one, other in itertools.pairwise(runs))
        assert set(runs) == {"poison", "good", "better"}

    leaping(body)


def test_a_probe_whose_answer_takes_long_holds_up_no_other():
    async def body() -> None:
        outage = new()
        fail(outage, "x", "y")
        group = await callers(outage, "slow", "quick")
        slow = await next_of(group)
        quick = await next_of(group)
        assert slow.asking and quick.asked_at is not None and slow.asked_at is not None
        assert quick.asked_at - slow.asked_at <= LAST_PROBE_S
        await quick.gets(None)
        assert not outage.is_down

    leaping(body)


def test_one_that_is_alone_probes_again():
    async def body() -> None:
        outage = new()
        fail(outage, "x", "y")
        for n in range(3):
            (caller,) = await callers(outage, "lone")
            await next_of([caller])
            await caller.gets(AWAY)
            assert outage.is_down, n

    leaping(body)


def test_calls_that_were_under_way_and_fail_late_do_not_lengthen_the_pause():
    """200 in flight: the pause must not be doubled 197 times before the first probe."""

    async def body() -> None:
        outage = new()
        late = await callers(outage, *map(str, range(200)))
        assert all(caller.asking for caller in late)
        await asyncio.sleep(1)
        start = now()
        for caller in late:
            await caller.gets(AWAY)
        assert outage.is_down
        group = await callers(outage, *"abc")
        await next_of(group)
        assert now() - start == pytest.approx(FIRST_PROBE_S)
        await asyncio.sleep(FIRST_PROBE_S)
        assert sum(caller.asking for caller in group) == 1

    leaping(body)


def test_callers_that_are_cancelled_leave_their_chance_to_others():
    async def body() -> None:
        outage = new()
        fail(outage, "x", "y")
        group = await callers(outage, "a", "b")
        group[0].task.cancel()  # while it waits
        probe = await next_of(group[1:])
        probe.task.cancel()  # while it asks
        (third,) = await callers(outage, "c")
        assert await next_of([third]) is third

    leaping(body)


def test_the_providers_own_time_is_waited_for():
    async def body() -> None:
        outage = new()
        fail(outage, "x", "y", error=ModelUnavailable("soon", retry_after_s=300))
        start = now()
        (probe,) = await callers(outage, "a")
        await next_of([probe])
        assert now() - start == pytest.approx(300)
        await probe.gets(ModelUnavailable("not yet", retry_after_s=100))
        (probe,) = await callers(outage, "a")
        await next_of([probe])
        assert now() - start == pytest.approx(400)

    leaping(body)


def test_probes_of_many_workers_are_scattered():
    async def body() -> None:
        waited = []
        for jitter in (0.0, 1.0):
            outage = new(functools.partial(float, jitter))
            fail(outage, "x", "y")
            start = now()
            await next_of(await callers(outage, "a"))
            waited.append(now() - start)
        assert waited == pytest.approx([0.75 * FIRST_PROBE_S, 1.25 * FIRST_PROBE_S])

    leaping(body)


def test_an_outage_is_said_once_when_it_begins_and_once_when_it_ends():
    signals, said = Signals(), list[Signal]()
    signals.on(Signal, said.append)

    async def body() -> None:
        outage = new(signals=signals)
        fail(outage, *"abcdefghij")
        await asyncio.sleep(1)
        outage.succeeded(now())
        outage.succeeded(now())

    leaping(body)
    down, up = said
    assert down == ProviderDown("server/m", "it does not answer")
    assert isinstance(up, ProviderUp) and up.name == "server/m"


def test_its_condition_says_which_one_it_is_and_why_it_is_down_since_when():
    async def body() -> None:
        outage = new()
        assert outage.condition == Condition("model", UP, "server/m")
        fail(outage, "x", "y", error=ModelUnavailable("no \ud83d room"))
        condition = outage.condition
        assert (condition.what, condition.state) == ("model", DOWN)
        assert condition.reason == "server/m: no ? room" and condition.since is not None

    leaping(body)
