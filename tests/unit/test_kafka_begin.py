"""A run on Kafka is begun once for as long as it is kept, by whomever, and refused with other
content: on a Kafka in memory."""

import asyncio
import uuid
from typing import Any

import msgspec
import pytest
from faust.types import TP

from penstock.broker.contract import Location
from penstock.broker.kafka.delivery import Tracker
from penstock.broker.kafka.journal import DEDUPE_S
from penstock.broker.kafka.topics import finished
from penstock.errors import RunBegunBefore
from penstock.record import events
from penstock.record.events import Event, first_event
from tests.unit.kafka_workers import (
    JOURNAL,
    PLAN,
    SESSION_S,
    Cluster,
    Worker,
    idea,
    print_,
    run,
    write,
)

__all__ = ["run"]

TRACE = "0f8fad5b-d9cb-469f-a165-70867728950e"
DAY_S = 86400.0


async def begin(worker: Worker, event: Event, kept: bool = False) -> Location | None:
    return await worker.journal.begin("idea", event.id, event.key, events.dump(event), kept)


def another(text: str = "a whale") -> Event:
    """A run of the same id as `idea(trace_id=TRACE)`."""
    return idea(text, TRACE)


# -- by a worker


def test_a_worker_begins_a_run_once(run):
    async def body(cluster: Cluster) -> None:
        worker = await cluster.start()
        assert await begin(worker, idea(trace_id=TRACE)) == Location(0, 0)
        assert await begin(worker, idea(trace_id=TRACE)) is None
        await cluster.settle()
        worker.kill()
        assert await begin(await cluster.start(), idea(trace_id=TRACE)) is None
        await cluster.settle()
        assert len(cluster.events("idea")) == len(cluster.events("text")) == 1

    run(body)


def test_the_same_content_in_another_order_at_another_time_is_the_same_run(run):
    async def body(cluster: Cluster) -> None:
        worker = await cluster.start()
        one = first_event("tale", {"idea": "x", "mood": {"a": 1, "b": 2}}, TRACE)
        same = first_event("tale", {"mood": {"b": 2, "a": 1}, "idea": "x"}, TRACE)
        same = msgspec.structs.replace(same, created=one.created + 60)
        assert await begin(worker, one) is not None
        assert await begin(worker, same) is None
        cluster.put(same)
        await cluster.settle()
        assert len(cluster.events("text")) == 1 and cluster.dead_letters() == []

    run(body)


def test_a_worker_refuses_another_content(run):
    async def body(cluster: Cluster) -> None:
        worker = await cluster.start()
        await begin(worker, idea(trace_id=TRACE))
        with pytest.raises(RunBegunBefore, match=f"run {TRACE} was begun before with other parts"):
            await begin(worker, another())
        worker.kill()
        with pytest.raises(RunBegunBefore):
            await begin(await cluster.start(), another())
        assert len(cluster.events("idea")) == 1

    run(body)


def test_a_worker_begins_no_run_of_a_partition_that_is_anothers(run):
    async def body(cluster: Cluster) -> None:
        first = await cluster.start()
        second = await cluster.start(None, first)
        runs = [idea(f"{n}", str(uuid.UUID(int=n))) for n in range(6)]
        began = [[await begin(worker, event) for event in runs] for worker in (first, second)]
        assert all((a is None) != (b is None) for a, b in zip(*began, strict=True))
        await cluster.settle()
        assert len(cluster.events("text")) == 6

    run(body, partitions=2)


def test_a_seed_waits_for_whoever_has_its_partition_and_is_known_for_ever(run):
    async def body(cluster: Cluster) -> None:
        worker = Worker(cluster, {"teller": write, "printer": print_})
        beginning = asyncio.ensure_future(begin(worker, idea(), kept=True))
        await cluster.settle()
        assert not beginning.done()
        await cluster.share(worker)
        assert await beginning == Location(0, 0)
        await cluster.settle()
        cluster.ahead_s += 400 * DAY_S
        worker.journal.retire(cluster.now())
        assert await begin(worker, idea(), kept=True) is None
        worker.kill()
        assert await begin(await cluster.start(), idea(), kept=True) is None

    run(body)


def test_a_run_that_a_client_has_just_begun_too_is_run_once(run):
    async def body(cluster: Cluster) -> None:
        event = idea()
        cluster.put(event)
        await begin(await cluster.start(), event)
        await cluster.settle()
        assert len(cluster.events("idea")) == 2
        assert cluster.model.asked == ["write a snail", "print a snail"]

    run(body)


@pytest.mark.parametrize("killed", [False, True])
def test_a_worker_knows_what_a_client_began(killed: bool, run):
    async def body(cluster: Cluster) -> None:
        worker = await cluster.start()
        cluster.put(idea(trace_id=TRACE))
        await cluster.settle()
        if killed:
            worker.kill()
            worker = await cluster.start()
        assert await begin(worker, idea(trace_id=TRACE)) is None
        with pytest.raises(RunBegunBefore):
            await begin(worker, another())
        assert len(cluster.events("idea")) == 1

    run(body)


# -- by a client, whose records only the workers can know again


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("hours", [0, 2, 24 * 400])
def test_a_run_that_is_put_on_the_topic_again_is_not_paid_again(hours: float, killed: bool, run):
    async def body(cluster: Cluster) -> None:
        worker = await cluster.start()
        cluster.put(idea())
        await cluster.settle()
        for _ in range(2):
            cluster.ahead_s += hours * 3600
            cluster.compact()
            if killed:
                worker.kill()
                worker = await cluster.start()
            cluster.put(idea())
            cluster.put(idea("other"))  # a step's end is when the old is forgotten
            await cluster.settle()
        assert cluster.model.asked.count("write a snail") == 1
        assert cluster.model.asked.count("write other") == 1
        assert cluster.is_committed() and cluster.dead_letters() == []

    run(body)


def test_a_run_that_is_not_kept_any_more_may_begin_anew(run):
    async def body(cluster: Cluster) -> None:
        worker = await cluster.start()
        cluster.put(idea())
        await cluster.settle()
        for hours, times in ((23, 1), (25, 2)):
            cluster.ahead_s = hours * 3600
            worker.journal.retire(cluster.now() - DAY_S)
            cluster.put(idea())
            await cluster.settle()
            assert cluster.model.asked.count("write a snail") == times
        worker.kill()
        await cluster.start()
        cluster.put(idea())
        await cluster.settle()
        assert cluster.model.asked.count("write a snail") == 2

    run(body)


def test_other_events_are_known_for_the_time_in_which_a_crash_can_send_them_twice(run):
    async def body(cluster: Cluster) -> None:
        await cluster.start()
        cluster.put(idea())
        await cluster.settle()
        (draft,) = cluster.kafka.records("draft")
        cluster.ahead_s += DEDUPE_S - 60
        cluster.kafka.append("draft", draft.key, draft.value)
        await cluster.settle()
        assert cluster.model.asked.count("print a snail") == 1
        cluster.ahead_s += 120
        cluster.put(idea("other"))
        await cluster.settle()
        assert len(cluster.journal(b"i|")) == 1, "nothing is kept of what nobody can send any more"
        assert len(cluster.journal(b"f|")) == 2

    run(body)


@pytest.mark.parametrize("when", ["at once", "in flight", "a day later", "to the next worker"])
def test_another_content_is_a_dead_letter_and_the_first_run_ends_well(when: str, run):
    async def body(cluster: Cluster) -> None:
        worker = await cluster.start()
        cluster.put(idea(trace_id=TRACE))
        if when == "in flight":
            answer = cluster.model.hold("write a snail")
        if when != "at once":
            await cluster.settle()
        if when == "a day later":
            cluster.ahead_s += DAY_S
        if when == "to the next worker":
            worker.kill()
            await cluster.start()
        cluster.put(another())
        await cluster.settle()
        if when == "in flight":
            answer.set()
            await cluster.settle()
        (dead_letter,) = cluster.dead_letters()
        assert (dead_letter.cause, dead_letter.trace_id) == ("RunBegunBefore", TRACE)
        (text,) = cluster.events("text")
        assert text.parts["idea"] == "a snail"
        assert cluster.model.asked == ["write a snail", "print a snail"]
        # The one that was refused does not stand for the one that was begun.
        cluster.put(idea(trace_id=TRACE), another())
        await cluster.settle()
        assert len(cluster.events("text")) == 1
        refused = [
            events.load(dead_letter.record).parts["idea"] for dead_letter in cluster.dead_letters()
        ]
        assert refused == ["a whale", "a whale"]
        assert cluster.is_committed()

    run(body)


@pytest.mark.parametrize("point", ["outputs sent", "progress written", "acked", "committed"])
def test_what_is_refused_is_one_dead_letter_whatever_is_killed(point: str, run):
    async def body(cluster: Cluster) -> None:
        first = await cluster.start()
        cluster.put(idea(trace_id=TRACE))
        await cluster.settle()
        cluster.kill_at(point, first)
        cluster.put(another())
        await cluster.settle()
        await cluster.start()
        await cluster.settle()
        assert {dead_letter.cause for dead_letter in cluster.dead_letters()} == {"RunBegunBefore"}
        assert len({dead_letter.id for dead_letter in cluster.dead_letters()}) == 1
        assert cluster.model.asked == ["write a snail", "print a snail"]

    run(body)


def test_a_replay_of_a_dead_letter_is_no_beginning(run):
    async def body(cluster: Cluster) -> None:
        await cluster.start()
        event = idea()
        cluster.put(event)
        await cluster.settle()
        cluster.put(event, replay=1)
        await cluster.settle()
        assert len({made.id for made in cluster.events("draft")}) == 2

    run(body)


# -- what earlier versions wrote


@pytest.mark.parametrize("value", [b"1764360000.5", b"null"])
def test_a_beginning_of_before_is_known_whatever_its_content(value: bytes, run):
    async def body(cluster: Cluster) -> None:
        event = another()
        cluster.kafka.append(JOURNAL, b"b|" + event.id.encode(), value, 0)
        worker = await cluster.start()
        assert await begin(worker, event) is None
        assert await begin(worker, another("other")) is None
        worker.journal.retire(2e9)
        await cluster.settle()
        assert (cluster.journal(b"b|") == {}) == (value != b"null")

    run(body)


def test_an_id_of_before_is_known_whatever_its_content_and_forgotten_after_its_hour(run):
    async def body(cluster: Cluster) -> None:
        event = another()
        ids: Any = (cluster.now(), [event.id])
        cluster.kafka.append(JOURNAL, b"i|teller|0123abcd|1", msgspec.json.encode(ids), 0)
        await cluster.start()
        cluster.put(event, another("other"))
        await cluster.settle()
        assert cluster.model.asked == [] and cluster.dead_letters() == []
        cluster.ahead_s += DEDUPE_S + 1
        cluster.put(idea("unrelated"))
        await cluster.settle()
        cluster.put(event)
        await cluster.settle()
        assert "write a whale" in cluster.model.asked

    run(body)


# -- retention


def test_what_is_old_enough_is_retired_and_nothing_else(run):
    async def body(cluster: Cluster) -> None:
        async def claim(work: Any, ask: Any) -> str:
            await work.claim("mine")
            return "x"

        worker = await cluster.start({"teller": claim})
        await begin(worker, idea("old"))
        await cluster.settle()
        cluster.ahead_s += DAY_S
        await begin(worker, idea("new"))
        await begin(worker, idea("seed"), kept=True)
        await cluster.settle()
        worker.journal.retire(cluster.now() - DAY_S / 2)
        await cluster.settle()
        assert len(cluster.journal(b"b|")) == 2
        assert len(cluster.journal(b"c|.claims/")) == 3  # made by the calendar of this machine
        assert await begin(worker, idea("old")) is not None
        assert await begin(worker, idea("new")) is None
        await cluster.settle()
        worker.journal.retire(4e9)
        await cluster.settle()
        assert len(cluster.journal(b"b|")) == 1 and cluster.journal(b"c|") == {}

    run(body)


def test_topics_may_be_cut_up_to_what_the_group_has_committed():
    trackers = {
        TP("idea", 0): Tracker(5),
        TP("idea", 1): Tracker(None),
        TP("draft", 0): Tracker(3),
        TP(PLAN.cancels, 0): Tracker(2),
    }
    assert finished(PLAN, trackers) == {
        "idea": {0: 5},
        "draft": {0: 3},
        "text": {0: None},  # nobody reads it
        PLAN.steps: {0: None},
        PLAN.cancels: {0: 2},
    }


def test_a_suspended_worker_begins_nothing_that_another_has_begun(run):
    async def body(cluster: Cluster) -> None:
        first = await cluster.start()
        first.process.suspend()
        await cluster.settle(2 * SESSION_S)
        second = await cluster.start()
        await begin(second, idea())
        await cluster.settle()
        first.process.resume()
        await cluster.share(first)
        assert await begin(first, idea()) is None

    run(body)


# -- ids of other programs


def test_another_run_under_the_id_of_one_is_a_dead_letter_and_not_taken_for_done(run):
    async def body(cluster: Cluster) -> None:
        await cluster.start()
        for _ in range(2):
            cluster.put(msgspec.structs.replace(idea(trace_id=str(uuid.uuid4())), id="order"))
            await cluster.settle()
        assert len(cluster.events("text")) == 1
        assert [dead_letter.cause for dead_letter in cluster.dead_letters()] == ["RunBegunBefore"]

    run(body)


def test_ids_too_long_to_be_ids_are_distinguished_and_refused(run):
    async def body(cluster: Cluster) -> None:
        await cluster.start()
        for last in "12":
            long = "x" * 64 + last
            cluster.put(msgspec.structs.replace(idea(trace_id=str(uuid.uuid4())), id=long))
        await cluster.settle()
        assert [dead_letter.cause for dead_letter in cluster.dead_letters()] == [
            "MalformedEvent"
        ] * 2

    run(body)
