"""Kills, joins, zombies and outages on a real Kafka: nothing lost, nothing recorded repeated."""

import contextlib
import time
from collections.abc import Iterator

import pytest

from tests.chaos.clusters import SESSION_S, Cluster
from tests.chaos.crashing_worker import KAFKA_POINTS
from tests.chaos.evidence import KILL
from tests.chaos.trials import LONG, SLOW
from tests.chaos.verdicts import Verdict
from tests.servers.kafka import KafkaServer

pytestmark = pytest.mark.timeout(900 if LONG else 180)

RUNS = 400 if LONG else 120
#: Calls in flight when something happens.
CROWD = 50 if LONG else 10
SEVERAL = (1, 2, 3)
twelve = pytest.mark.settings(PENSTOCK_PARTITIONS="12")


#: Points that pass once for many steps.
SELDOM = ("acked, not committed", "committed")


def test_a_run_on_kafka_ends_once_when_its_worker_is_killed_at_each_point(
    kafka_trial: Cluster, judged: list[Verdict]
) -> None:
    trial = kafka_trial
    trial.env["PENSTOCK_WORKER_ID"] = "the-one"  # the next one takes its place at once
    trial.start(1)
    trial.terminate(1)  # it has made the topics
    for point in list(KAFKA_POINTS) * (3 if LONG else 1):
        trial.submit(RUNS // 4 if LONG else 20)
        # Ends that are written together pass a point once: twenty runs do so some five times.
        occurrence = 1 if point in SELDOM else trial.random.randrange(2, 5)
        trial.start(1, crash=f"{point}:{occurrence}")
        trial.wait_for_crash(1)
    trial.start(1)
    judge(trial, judged)


@pytest.mark.long  # `test_jobs` kills one worker in a crowd, too
def test_kills_of_one_worker_on_kafka_lose_nothing_and_repeat_nothing_recorded(
    kafka_trial: Cluster, judged: list[Verdict]
) -> None:
    trial = kafka_trial
    trial.env["PENSTOCK_WORKER_ID"] = "the-one"
    trial.start(1)
    trial.submit(RUNS)
    for share in (0.1, 0.4, 0.7):
        trial.wait_for_a_crowd(answered=share, count=CROWD)
        t = time.time()
        trial.kill(1)
        trial.start(1)
        trial.recovered(t)
    judge(trial, judged)


@twelve
def test_kills_among_three_workers_lose_nothing_and_repeat_nothing_recorded(
    kafka_trial: Cluster, judged: list[Verdict]
) -> None:
    trial = kafka_trial
    trial.start(*SEVERAL)
    trial.submit(RUNS)
    for share in (0.1, 0.4, 0.7) if LONG else (0.4,):
        trial.wait_for_a_crowd(answered=share, count=CROWD)
        slot = trial.random.choice(SEVERAL)
        trial.kill(slot)
        trial.start(slot)
    judge(trial, judged)


@pytest.mark.long  # a rolling restart is one that leaves and one that joins, three times
@twelve
def test_workers_that_join_and_leave_under_load_repeat_no_call_at_all(
    kafka_trial: Cluster, judged: list[Verdict]
) -> None:
    trial = kafka_trial
    trial.start(1)
    trial.submit(RUNS)
    trial.wait_for_calls(answered=0.1)
    trial.start(2)
    trial.wait_for_calls(answered=0.3)
    trial.start(3)
    trial.terminate(1)
    trial.wait_for_calls(answered=0.6)
    trial.start(1)
    trial.terminate(2)
    verdict = judge(trial, judged)
    assert not verdict.repeats


@twelve
def test_a_rolling_restart_of_three_workers_repeats_no_call_at_all(
    kafka_trial: Cluster, judged: list[Verdict]
) -> None:
    trial = kafka_trial
    trial.start(*SEVERAL)
    for slot in SEVERAL:
        trial.submit(RUNS // 2)
        trial.wait_for_a_crowd(answered=0.1, count=CROWD)
        trial.terminate(slot)
        trial.start(slot)
    verdict = judge(trial, judged)
    assert not verdict.repeats


@pytest.mark.parametrize("seconds", [5, 75, 600] if LONG else [5])
def test_a_broker_that_is_killed_and_started_again_loses_nothing(
    seconds: int, kafka_trial: Cluster, kafka_to_kill: KafkaServer, judged: list[Verdict]
) -> None:
    trial = kafka_trial
    trial.start(1)
    trial.submit(RUNS)
    trial.wait_for_a_crowd(answered=0.2, count=CROWD)
    worker = trial.workers[1]
    with without(kafka_to_kill):
        worker.wait_for("does not answer")
        time.sleep(seconds)
    worker.wait_for("answers again")
    verdict = judge(trial, judged)
    assert not verdict.repeats
    assert worker.text().count("does not answer") == worker.text().count("answers again") == 1
    assert "Traceback" not in worker.text()


def test_a_worker_stops_while_the_broker_is_away_and_loses_nothing(
    kafka_trial: Cluster, kafka_to_kill: KafkaServer, judged: list[Verdict]
) -> None:
    trial = kafka_trial
    trial.start(1, PENSTOCK_DRAIN_S="1")
    trial.submit(RUNS // 4)
    trial.wait_for_a_crowd(answered=0.2, count=CROWD)
    worker = trial.workers[1]
    t = time.time()
    with without(kafka_to_kill):
        assert worker.stop() == 0
    # What was answered meanwhile could not be recorded, as at a kill.
    trial.note_death(1, KILL, t)
    assert "Traceback" not in worker.text() and "[ERROR]" not in worker.text()
    trial.start(1)
    judge(trial, judged)


@twelve
def test_a_zombie_changes_no_result(kafka_trial: Cluster, judged: list[Verdict]) -> None:
    trial = kafka_trial
    trial.start(*SEVERAL)
    trial.submit(RUNS)
    trial.wait_for_a_crowd(answered=0.2, count=CROWD)
    trial.suspend(2, SESSION_S * 2 + 2 if LONG else SESSION_S + 4)
    judge(trial, judged)


def test_calls_longer_than_the_session_are_not_made_again(
    kafka_trial: Cluster, judged: list[Verdict]
) -> None:
    trial = kafka_trial
    trial.start(1, 2)
    count = RUNS if LONG else 30
    trial.server.script([{**SLOW, "seconds": SESSION_S * 1.5, "times": count}])
    trial.submit(count)
    trial.wait_for_calls(open_=CROWD)
    trial.start(3)  # a rebalance, for which they are waited for
    verdict = judge(trial, judged)
    assert not verdict.repeats


@contextlib.contextmanager
def without(kafka: KafkaServer) -> Iterator[None]:
    """Inside, Kafka is dead by `kill -9`; afterwards it is back, on the same data."""
    kafka.kill()
    yield
    kafka.start()


def judge(trial: Cluster, judged: list[Verdict]) -> Verdict:
    verdict = trial.judge()
    judged.append(verdict)
    verdict.keeps_the_promise()
    return verdict
