"""Pace: a provider that refuses calls as too many gets no more than it takes."""

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from penstock.conditions import UP
from penstock.errors import ModelBusy, ModelUnavailable
from penstock.models.gate import FREE_AFTER_S, Gates, Pace
from penstock.signals import ProviderBusy, Signal, Signals
from tests.unit.conftest import run_leaping

CALL_S = 2.0


class Provider:
    """One that takes `rate` calls a second, `burst` of them at once, and says when to come back."""

    def __init__(self, rate: float, burst: float, retry_after_s: float | None = None) -> None:
        self.rate = rate
        self.burst = self.left = burst
        self.retry_after_s = retry_after_s
        self.at = 0.0
        self.refusals: list[float] = []
        self.answers = 0

    async def __call__(self) -> None:
        await asyncio.sleep(0.05)
        now = asyncio.get_running_loop().time()
        self.left = min(self.burst, self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left < 1:
            self.refusals.append(now)
            raise ModelBusy("429", self.retry_after_s)
        self.left -= 1
        await asyncio.sleep(CALL_S)
        self.answers += 1


async def use(gates: Gates, provider: Provider, stories: int, calls: int = 4) -> float:
    """So many stories of so many calls are written; how many seconds that took."""

    async def write_story() -> None:
        for _ in range(calls):
            while True:
                with contextlib.suppress(ModelBusy):
                    async with gates.call("model", "server/m"):
                        await provider()
                    break

    began = asyncio.get_running_loop().time()
    await asyncio.gather(*(write_story() for _ in range(stories)))
    return asyncio.get_running_loop().time() - began


@contextlib.contextmanager
def heard() -> Iterator[tuple[Gates, list[Signal]]]:
    signals, said = Signals(), list[Signal]()
    signals.on(Signal, said.append)
    yield Gates(signals), said


@pytest.mark.parametrize(("retry_after_s", "times"), [(None, 1.2), (2.0, 1.4)])
@pytest.mark.parametrize("burst", [1, 10, 30])
def test_a_throttled_account_is_used_to_its_limit_and_hardly_refuses(burst, retry_after_s, times):
    provider = Provider(10, burst, retry_after_s)
    with heard() as (gates, said):
        took = run_leaping(use(gates, provider, 75))
    ideal = (300 - burst) / 10 + CALL_S
    assert provider.answers == 300 and took <= ideal * times
    late = [at for at in provider.refusals if at > provider.refusals[0] + 3]
    assert len(late) < 30, "one for ten answers, after the first seconds"
    assert [type(one) for one in said] == [ProviderBusy]


def test_a_slow_account_is_found_by_halves():
    provider = Provider(0.5, 20)
    with heard() as (gates, _):
        took = run_leaping(use(gates, provider, 100, 1))
    assert took <= 1.4 * (80 / 0.5 + CALL_S)
    late = [at for at in provider.refusals if at > provider.refusals[0] + 15]
    assert len(late) < 10


def test_calls_go_out_in_the_order_of_their_arrival_and_none_is_forgotten():
    order: list[int] = []

    async def body() -> None:
        gates = Gates(Signals())
        *_, pace = gates.of("model", "server/m")
        assert isinstance(pace, Pace)
        pace.failed(ModelBusy("429"), 0.0)

        async def call(n: int) -> None:
            async with gates.call("model", "server/m"):
                order.append(n)

        tasks = [asyncio.ensure_future(call(n)) for n in range(20)]
        await asyncio.sleep(0.5)
        tasks[7].cancel()
        await asyncio.wait(tasks)

    run_leaping(body())
    assert order == [n for n in range(20) if n != 7]


def test_a_provider_that_takes_more_by_now_gets_more_and_is_free_in_the_end():
    async def body() -> None:
        gates, provider = Gates(Signals()), Provider(10, 10)
        await use(gates, provider, 50, 1)
        *_, pace = gates.of("model", "server/m")
        assert isinstance(pace, Pace)
        condition = pace.condition
        assert condition is not None and condition.state == UP
        assert "server/m is busy: 9" in condition.reason
        provider.rate = provider.burst = 1000
        refused = len(provider.refusals)
        await use(gates, provider, 1000, 1)
        assert pace.rate is not None and pace.rate > 15
        await asyncio.sleep(FREE_AFTER_S)
        await use(gates, provider, 1)
        assert pace.rate is None and pace.condition is None
        assert len(provider.refusals) == refused

    run_leaping(body())


def test_the_rate_is_what_was_taken_of_a_burst_whenever_its_calls_left_exactly():
    async def body() -> None:
        pace = Pace("model", "server/m", Signals())
        began = []
        for _ in range(75):
            await pace.acquire()
            await asyncio.sleep(0.0001)  # on a real clock a call leaves after it was let through
            began.append(asyncio.get_running_loop().time())
        for one in began[10:]:
            pace.failed(ModelBusy("429"), one)
        assert pace.rate == pytest.approx(9.5)

    run_leaping(body())


def test_what_is_away_is_not_busy():
    async def body() -> None:
        gates = Gates(Signals())
        *_, pace = gates.of("model", "server/m")
        assert isinstance(pace, Pace)
        assert not pace.failed(ModelUnavailable("502"), 0.0) and pace.rate is None

    run_leaping(body())
