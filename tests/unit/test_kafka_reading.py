"""What others know of a Kafka's topics: records by run, what is finished, and how far behind."""

import msgspec
import pytest
from faust.types import TP

from penstock.broker.contract import Found
from penstock.broker.kafka.lag import unfinished
from penstock.broker.kafka.progress import Stretch
from penstock.broker.kafka.view import View
from penstock.record import events
from tests.unit.kafka_workers import JOURNAL, PLAN, Cluster, Worker, idea, run

__all__ = ["run"]

DEAD_LETTERS = PLAN.dead_letters
_encode = msgspec.json.Encoder().encode


def found(offset: int, value: bytes = b"x", key: bytes = b"run", topic: str = "idea") -> Found:
    return Found(topic, 0, offset, 0, key, value)


def event(offset: int, text: str = "a snail", topic: str = "idea") -> Found:
    made = idea(text)
    return found(offset, events.dump(made), made.key, topic)


def view() -> View:
    return View(PLAN.topics, {DEAD_LETTERS})


def mark(stretch: Stretch, owner: str = "one") -> tuple[bytes, bytes]:
    return f"p|teller|idea|{owner}-0".encode(), _encode(stretch)


# -- records


def test_records_are_found_by_their_run_from_an_offset_on():
    seen = view()
    for one in (found(0), found(1, key=b"another"), found(2)):
        seen.add(one)
    assert [one.offset for one in seen.find("idea", b"run")] == [0, 2]
    assert [one.offset for one in seen.find("idea", b"run", 1)] == [2]
    assert sorted(one.offset for one in seen.find("idea", None)) == [0, 1, 2]
    assert seen.find("idea", b"nobody") == [] and seen.count == 3


def test_an_event_that_a_crash_left_twice_is_found_once_on_each_topic():
    seen = view()
    for one in (event(0), event(1), event(2, "other"), event(0, topic="draft")):
        seen.add(one)
    assert [one.offset for one in seen.find("idea", None)] == [0, 2]
    assert [one.offset for one in seen.find("draft", None)] == [0]


def test_a_dead_letter_is_found_each_time_that_it_is_written():
    seen = view()
    seen.add(event(0, topic=DEAD_LETTERS))
    seen.add(event(1, topic=DEAD_LETTERS))
    assert [one.offset for one in seen.find(DEAD_LETTERS, None)] == [0, 1]


# -- what is finished


def test_marks_count_when_they_are_taken_over_and_not_before():
    seen = view()
    seen.add(found(0))
    seen.add_mark(0, *mark(Stretch(0, 1, [], [])))
    assert not seen.is_done("teller", found(0))
    seen.take_over(seen.held_back(), {}, {})
    assert seen.is_done("teller", found(0)) and not seen.is_done("printer", found(0))
    assert seen.held_back() == []


def test_what_the_group_has_committed_is_finished_by_all():
    seen = view()
    seen.take_over([], {TP("idea", 0): 2}, {})
    assert [seen.is_done("anybody", found(offset)) for offset in (0, 1, 2)] == [True, True, False]


def test_what_any_worker_calls_finished_is_finished_until_its_record_is_deleted():
    seen = view()
    one, two = mark(Stretch(0, 3, [1], [])), mark(Stretch(0, 0, [], [1]), "two")
    for key, value in (one, two):
        seen.add_mark(0, key, value)
    seen.take_over(seen.held_back(), {}, {})
    assert all(seen.is_done("teller", found(offset)) for offset in (0, 1, 2))
    seen.add_mark(0, two[0], None)
    seen.take_over(seen.held_back(), {}, {})
    assert not seen.is_done("teller", found(1))


@pytest.mark.parametrize("kind", [b"i|", b"f|"])
def test_an_event_is_finished_by_its_id_wherever_it_stands(kind: bytes):
    seen, id_ = view(), idea().id
    ids = [id_] if kind == b"i|" else {id_: "content"}
    seen.add_mark(0, kind + b"teller|one|1", _encode((1e9, ids)))
    seen.take_over(seen.held_back(), {}, {})
    assert seen.is_done("teller", event(7)) and not seen.is_done("teller", event(7, "other"))


def test_recorded_answers_are_counted_and_not_held():
    seen = view()
    seen.add_mark(0, b"c|teller/event/call-0", b"answer")
    assert seen.held_back() == [] and seen.count == 1


@pytest.mark.parametrize("point", ["outputs sent", "progress written", "acked", "committed"])
def test_a_run_is_never_seen_without_an_unfinished_event_before_its_end(point: str, run):
    async def body(cluster: Cluster) -> None:
        worker = await cluster.start()
        cluster.kill_at(point, worker)
        cluster.put(idea())
        await cluster.settle()
        assert not ended(cluster) or len(cluster.events("text")) == 1
        await cluster.start()
        await cluster.settle()
        assert ended(cluster)

    run(body)


def ended(cluster: Cluster) -> bool:
    """Whether a reader takes the run for over."""
    seen = view()
    for record in cluster.kafka.records(JOURNAL):
        seen.add_mark(record.partition, record.key or b"", record.value)
    marks = seen.held_back()
    for topic in ("idea", "draft", "text"):
        for one in cluster.kafka.records(topic):
            seen.add(Found(topic, one.partition, one.offset, 0, one.key or b"", one.value or b""))
    seen.take_over(marks, {}, {})
    readers = {name: topic for topic, (name,) in PLAN.readers.items()}
    return all(
        seen.is_done(name, one) for name, topic in readers.items() for one in seen.find(topic, None)
    )


# -- lag


def lag(cluster: Cluster, worker: Worker, topic: str = "idea", firsts: int = 0) -> int:
    kafka = cluster.kafka
    tps = [TP(topic, part) for part in range(kafka.partitions)]
    return unfinished(
        worker.journal,
        PLAN.readers.get(topic, ()),
        {tp: kafka.end(tp) for tp in tps},
        {tp: kafka.commits.get(tp, -1) for tp in tps},
        dict.fromkeys(tps, firsts),
    )


def test_what_is_in_flight_counts_and_what_is_finished_above_it_does_not(run):
    async def body(cluster: Cluster) -> None:
        answer = cluster.model.hold("write slow")
        worker = await cluster.start()
        assert lag(cluster, worker) == 0
        cluster.put(idea("slow"), *(idea(f"{n}") for n in range(4)))
        await cluster.settle()
        assert (lag(cluster, worker), lag(cluster, worker, "draft")) == (1, 0)
        assert cluster.kafka.commits.get(TP("idea", 0)) is None
        answer.set()
        await cluster.settle()
        assert lag(cluster, worker) == 0

    run(body)


def test_what_was_not_delivered_counts(run):
    async def body(cluster: Cluster) -> None:
        worker = await cluster.start()
        cluster.put(idea("one"))
        await cluster.settle()
        worker.process.suspend()
        cluster.put(idea("two"), idea("three"))
        assert lag(cluster, worker) == 2

    run(body)


def test_of_others_partitions_it_is_what_the_group_has_not_committed(run):
    async def body(cluster: Cluster) -> None:
        first = await cluster.start()
        second = await cluster.start(None, first)
        runs = [one for one in (idea(f"{n}") for n in range(20)) if cluster.partition_of(one) == 1]
        answer = cluster.model.hold(f"write {runs[1].parts['idea']}")
        cluster.put(*runs[:5])
        await cluster.settle()
        assert (lag(cluster, first), lag(cluster, second)) == (4, 1)
        answer.set()
        await cluster.settle()
        assert (lag(cluster, first), lag(cluster, second)) == (0, 0)

    run(body, partitions=2)


def test_where_nothing_was_ever_committed_it_is_all_that_is_kept(run):
    async def body(cluster: Cluster) -> None:
        worker = await cluster.start()
        worker.process.suspend()
        cluster.put(*(idea(f"{n}") for n in range(5)))
        assert (lag(cluster, worker), lag(cluster, worker, firsts=2)) == (5, 3)

    run(body)


def test_of_a_topic_that_nobody_reads_it_is_what_is_not_committed(run):
    async def body(cluster: Cluster) -> None:
        worker = await cluster.start()
        cluster.put(idea())
        await cluster.settle()
        assert lag(cluster, worker, "text") == 1

    run(body)
