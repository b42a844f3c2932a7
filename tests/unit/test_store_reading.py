"""The store: its topics and their partitions, offsets, and what is read of them."""

import pathlib
import time

import pytest
from aiokafka.partitioner import DefaultPartitioner
from faust.types import TP

from penstock.broker.contract import Pipeline, Plan
from penstock.broker.embedded.retention import delete_finished
from penstock.broker.embedded.store import Store
from penstock.broker.embedded.writer import KNOWN
from penstock.errors import BrokerUnavailable
from tests.unit.conftest import until
from tests.unit.stores import IDEA, append, appended, as_worker, store

__all__ = ["as_worker", "store"]

PLAN = Plan("tale", (Pipeline("tale", "tale.yaml", ("idea",)),), {"idea": ("teller",)})


# -- names


def test_a_topic_keeps_the_partitions_that_it_was_made_with(store, open_store):
    store.create("wide", 3)
    store.create("wide", 5)
    open_store().create("wide", 7)
    assert (store.partitions("wide"), store.partitions("nowhere")) == (3, None)
    assert store.topics()["wide"] == 3


def test_what_is_not_there_is_named(store, tmp_path: pathlib.Path):
    with pytest.raises(BrokerUnavailable, match=r"penstock\.db: there is no topic 'nowhere'"):
        store.partition_of("nowhere", b"k")
    with pytest.raises(BrokerUnavailable, match="there is no partition 1 of a topic 'idea'"):
        store.part(TP("idea", 1))


def test_a_key_has_the_partition_that_kafka_gives_it(store):
    store.create("wide", 7)
    kafkas, partitions = DefaultPartitioner(), list(range(7))
    for number in range(50):
        key = f"key {number}".encode()
        assert store.partition_of("wide", key) == kafkas(key, partitions, partitions)


def test_records_are_read_a_few_at_a_time_from_any_offset(store):
    appended(store, IDEA, *[str(i).encode() for i in range(10)])
    assert [record[0] for record in store.read(IDEA, 0, 3)] == [0, 1, 2]
    assert [record[0] for record in store.read(IDEA, 8, 3)] == [8, 9]
    assert store.read(IDEA, 10, 3) == []


def test_a_record_is_read_as_it_was_appended(store):
    store.append(IDEA, 1234, b"key", b"value", b"headers")
    store.append(IDEA, 1235, None, None, None)
    store.append(IDEA, 1236, b"", b"", None)
    store.commit_now()
    assert store.read(IDEA, 0, 9) == [
        (0, 1234, b"key", b"value", b"headers"),
        (1, 1235, None, None, None),
        (2, 1236, b"", b"", None),
    ]


def test_positions_of_others_are_seen_when_ours_are_forgotten(store, open_store):
    appended(store, IDEA, b"a")
    other = open_store()
    assert not store.position("teller", IDEA).is_done(0)
    other.finish("teller", IDEA, 0)
    other.commit_now()
    assert not store.position("teller", IDEA).is_done(0)
    store.forget_positions()
    assert store.position("teller", IDEA).is_done(0)


# -- offsets


def test_offsets_go_on_after_what_another_process_appended(as_worker, open_store):
    async def body(store: Store) -> None:
        other = open_store()
        given = []
        for _ in range(5):
            given += appended(other, IDEA, b"theirs")
            own = append(store, IDEA, b"own", b"own")
            await store.flush()
            assert len(own) == 2
            given += own
        assert given == list(range(15))
        store.refresh()
        values = [record[3] for record in store.read(IDEA, 0, 100)]
        assert values == [b"theirs", b"own", b"own"] * 5

    as_worker(body)


def test_what_another_process_appended_is_read_after_a_refresh(store, open_store):
    other = open_store()
    assert store.end(IDEA) == 0
    before = store.version()
    appended(other, IDEA, b"a")
    assert store.version() != before, "a change is seen without reading"
    assert store.read(IDEA, 0, 10) == []
    store.refresh()
    assert [record[0] for record in store.read(IDEA, 0, 10)] == [0]


def test_deleted_records_never_give_their_offsets_out_again(store, open_store, rows):
    appended(store, IDEA, b"a", b"b", b"c")
    for offset in range(3):
        store.finish("teller", IDEA, offset)
    store.commit_now()
    count = delete_finished(store, PLAN, time.time() + 1)
    assert (count, rows().records()) == (3, [])
    assert store.end(IDEA) == 3
    assert appended(store, IDEA, b"d") == [3]
    assert not store.position("teller", IDEA).is_done(3)
    other = open_store()
    assert (other.end(IDEA), appended(other, IDEA, b"e")) == (4, [4])


def test_an_id_is_submitted_once_by_whomever(as_worker, open_store, rows):
    async def body(store: Store) -> None:
        answers: list[tuple[str, int]] = []

        def submit(store: Store, id_: str) -> None:
            store.submit(
                id_, IDEA, b"k", id_.encode(), lambda offset: answers.append((id_, offset))
            )

        for id_ in ("run 1", "run 1", "run 2"):
            submit(store, id_)
        await until(lambda: len(answers) == 3)
        assert answers == [("run 1", 0), ("run 1", KNOWN), ("run 2", 1)]
        submit(store, "run 2")
        await until(lambda: len(answers) == 4)
        other = open_store()
        submit(other, "run 1")
        submit(other, "run 3")
        other.commit_now()
        assert answers[3:] == [("run 2", KNOWN), ("run 1", KNOWN), ("run 3", 2)]
        assert rows().records() == [b"run 1", b"run 2", b"run 3"]
        assert store.end(IDEA) == 2 and other.end(IDEA) == 3

    as_worker(body)
