"""The governor: a timer waits while the readers are behind, and says so once each time."""

import asyncio

import pytest

from penstock.errors import BrokerUnavailable
from penstock.project.chains import Chain, GovernorSpec, StageSpec, Topic
from penstock.signals import GovernorBlind, Signal, Signals
from penstock.worker.governor import ACTIVE, THROTTLED, Governor, governed, judge
from penstock.worker.life import Life

SPEC = GovernorSpec(topic="idea", limit=3)


class Worker:
    """A worker around a governor: a lag each time that it asks, and what was said."""

    def __init__(self, *lags: int | Exception) -> None:
        self.lags = list(lags)
        self.is_over = False
        self.slept = 0
        self.said: list[Signal] = []

    def governor(self, chain: Chain) -> Governor:
        signals = Signals()
        signals.on(Signal, self.said.append)
        return Governor(chain, SPEC, self.lag, Life(lambda: self.is_over, self.sleep), signals)

    async def lag(self, topic: str) -> int:
        assert topic == "idea"
        lag = self.lags.pop(0)
        if isinstance(lag, Exception):
            raise lag
        return lag

    async def sleep(self, seconds: float) -> None:
        self.slept += 1
        self.is_over = not self.lags


def chain() -> Chain:
    stages = [StageSpec(reads="idea", step="write")]
    return Chain(pipeline="tale", topics={"idea": Topic()}, stages=stages, governor=SPEC)


def admitted(worker: Worker) -> bool:
    return asyncio.run(worker.governor(chain()).admit())


@pytest.mark.parametrize(("lag", "state"), [(0, ACTIVE), (3, ACTIVE), (4, THROTTLED)])
def test_more_than_the_limit_throttles(lag, state):
    assert judge(SPEC, "idea", lag).state == state


def test_within_the_limit_nothing_waits_and_nothing_is_said():
    worker = Worker(3)
    assert not admitted(worker)
    assert worker.slept == 0 and not worker.said


def test_above_it_the_timer_waits_and_both_changes_are_said_once():
    worker = Worker(9, 7, 4, 3)
    assert admitted(worker)
    assert worker.slept == 3
    first, second = map(str, worker.said)
    assert first.startswith("🛑 LAG TOO HIGH. Throttling... tale: 9 events of 'idea'")
    assert second.startswith("▶ Lag is down. tale goes on: 3 events")


def test_a_broker_that_says_nothing_holds_the_timer_back():
    worker = Worker(BrokerUnavailable("away"), 0)
    assert admitted(worker)
    assert worker.slept == 1


def test_a_defect_holds_the_timer_back_and_is_said_once():
    worker = Worker(ValueError("odd"), ValueError("odd"), 0)
    assert admitted(worker)
    (blind,) = worker.said
    assert isinstance(blind, GovernorBlind) and blind.pipeline == "tale"


def test_a_worker_that_stops_waits_no_longer():
    worker = Worker(9)
    assert admitted(worker)
    assert worker.is_over


def test_runs_that_gather_where_the_timer_begins_them_hold_it_back_too() -> None:
    class Behind(Worker):
        async def lag(self, topic: str) -> int:
            if topic == "idea":
                return 0
            return await super().lag("idea")

    worker = Behind(4, 3)
    wishes = chain().model_copy(update={"topics": {"wish": "", "idea": ""}})
    assert asyncio.run(worker.governor(wishes).admit())
    assert governed(wishes, SPEC) == ["idea", "wish"] and worker.slept == 1
