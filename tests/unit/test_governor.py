"""The governor: a timer waits while the readers are behind, and says so once each time."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from penstock.errors import BrokerUnavailable
from penstock.project.chains import Chain, GovernorSpec, StageSpec
from penstock.worker.governor import ACTIVE, THROTTLED, Governor, governed, judge

SPEC = GovernorSpec(topic="idea", limit=3)


class Worker:
    """What a governor needs of the app: a lag each time that it asks."""

    def __init__(self, *lags: int | Exception) -> None:
        self.lags = list(lags)
        self.settings = SimpleNamespace(app_id="penstock")
        self.should_stop = False
        self.slept = 0

    async def lag(self, topic: str) -> int:
        assert topic == "idea"
        lag = self.lags.pop(0)
        if isinstance(lag, Exception):
            raise lag
        return lag

    async def sleep(self, seconds: float) -> None:
        self.slept += 1
        self.should_stop = not self.lags


def chain() -> Chain:
    stages = [StageSpec(reads="idea", step="tell")]
    return Chain(pipeline="tale", topics={"idea": ""}, stages=stages, governor=SPEC)


def admitted(worker: Worker) -> bool:
    governor = Governor(cast(Any, worker), chain(), SPEC)
    return asyncio.run(governor.admit())


@pytest.mark.parametrize(("lag", "state"), [(0, ACTIVE), (3, ACTIVE), (4, THROTTLED)])
def test_more_than_the_limit_throttles(lag, state):
    assert judge(SPEC, "idea", lag).state == state


def test_within_the_limit_nothing_waits_and_nothing_is_said(caplog):
    worker = Worker(3)
    assert not admitted(worker)
    assert worker.slept == 0 and not caplog.records


def test_above_it_the_timer_waits_and_both_changes_are_said_once(caplog):
    caplog.set_level(logging.INFO, "penstock.worker.governor")
    worker = Worker(9, 7, 4, 3)
    assert admitted(worker)
    assert worker.slept == 3
    first, second = caplog.messages
    assert first.startswith("🛑 LAG TOO HIGH. Throttling... tale: 9 events of 'idea'")
    assert second.startswith("▶ Lag is down. tale goes on: 3 events")


def test_a_broker_that_says_nothing_holds_the_timer_back():
    worker = Worker(BrokerUnavailable("away"), 0)
    assert admitted(worker)
    assert worker.slept == 1


def test_a_worker_that_stops_waits_no_longer():
    worker = Worker(9)
    assert admitted(worker)
    assert worker.should_stop


def test_runs_that_gather_where_the_timer_begins_them_hold_it_back_too() -> None:
    class Behind(Worker):
        async def lag(self, topic: str) -> int:
            if topic == "idea":
                return 0
            return await super().lag("idea")

    worker = Behind(4, 3)
    wishes = chain().model_copy(update={"topics": {"wish": "", "idea": ""}})
    governor = Governor(cast(Any, worker), wishes, SPEC)
    assert asyncio.run(governor.admit())
    assert governed(wishes, SPEC) == ["idea", "wish"] and worker.slept == 1
