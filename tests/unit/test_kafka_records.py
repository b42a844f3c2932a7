"""Records that cannot be read, as other programs and broken disks leave them: each is delivered at
its offset, and what comes after it is read."""

import struct
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from faust.types import TP

from penstock.broker.kafka.reading import ReadableRecords
from penstock.broker.kafka.records import Part
from penstock.errors import MalformedEvent
from penstock.record import events
from penstock.record.events import Unreadable
from tests.unit.kafka_workers import JOURNAL, Cluster, idea, run

__all__ = ["run"]

#: Where a batch has its length, its checksum and its attributes.
LENGTH, CRC, ATTRIBUTES = 8, 17, 21
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4


def batch(first: int, *values: bytes, codec: int = 0, header: str = "") -> bytearray:
    """A batch as it stands on a topic, its first record at offset `first`."""
    builder = DefaultRecordBatchBuilder(2, codec, False, -1, -1, 0, 10**6)
    for number, value in enumerate(values):
        headers = [(header, b"")] if header else []
        builder.append(number, 0, b"key", value, headers)
    made = bytearray(builder.build())
    struct.pack_into(">q", made, 0, first)
    return made


def read(*batches: bytearray, start: int = 0, check: bool = True) -> list[Any]:
    records = MemoryRecords(b"".join(bytes(one) for one in batches))
    return list(
        ReadableRecords(TopicPartition("idea", 0), records, [], start, None, None, check, 0)
    )


def shown(records: list[Any]) -> list[tuple[int, bytes | None]]:
    """Offset and value of each; None for one that cannot be read."""
    return [(r.offset, None if isinstance(r.value, Unreadable) else r.value) for r in records]


@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD])
def test_every_codec_of_kafka_is_read(codec: int):
    assert shown(read(batch(3, b"x" * 4000, codec=codec))) == [(3, b"x" * 4000)]


def test_a_damaged_batch_is_passed_record_by_record():
    damaged = batch(1, b"second", b"third")
    damaged[-3] ^= 1
    found = read(batch(0, b"first"), damaged, batch(3, b"fourth"))
    assert shown(found) == [(0, b"first"), (1, None), (2, None), (3, b"fourth")]
    assert found[1].value.reason.startswith("the record idea/0/1 cannot be read: CorruptRecord")
    with pytest.raises(MalformedEvent, match="idea/0/1 cannot be read"):
        events.load(found[1].value)


def test_a_damaged_count_skips_nothing_that_can_be_read():
    damaged = batch(0, b"first")
    struct.pack_into(">i", damaged, 23, 10**9)
    assert shown(read(damaged, batch(1, b"second"))) == [(0, None), (1, b"second")]


def test_an_unknown_codec_is_named():
    unknown = batch(0, b"first")
    unknown[ATTRIBUTES + 1] = 6
    found = read(unknown, batch(1, b"second"), check=False)
    assert shown(found) == [(0, None), (1, b"second")]
    assert "Unknown compression codec 0x06" in found[0].value.reason


def test_a_header_that_is_no_text_costs_its_own_batch_only():
    made = batch(0, b"first", header="name")
    made[made.index(b"name")] = 0xFF
    assert shown(read(made, batch(1, b"second"), check=False)) == [(0, None), (1, b"second")]


def test_what_was_read_of_a_batch_before_is_not_delivered_again():
    damaged = batch(0, b"first", b"second")
    damaged[-3] ^= 1
    assert shown(read(damaged, start=1)) == [(1, None)]


def test_a_batch_without_a_length_ends_the_fetch_and_not_the_reader():
    short = bytearray(40)
    struct.pack_into(">i", short, LENGTH, 0)
    assert shown(read(batch(0, b"first"), short)) == [(0, b"first"), (1, None)]


# -- what a worker does with them


def test_an_unreadable_record_is_a_dead_letter_and_the_next_run_ends(run):
    async def body(cluster: Cluster) -> None:
        worker = await cluster.start()
        cluster.kafka.append("idea", None, Unreadable("idea/0/0 cannot be read: no such codec"), 0)
        cluster.put(idea())
        await cluster.settle()
        (dead_letter,) = cluster.dead_letters()
        assert (dead_letter.cause, dead_letter.record) == ("MalformedEvent", None)
        assert dead_letter.message == "idea/0/0 cannot be read: no such codec"
        assert len(cluster.events("text")) == 1 and cluster.is_committed()
        assert len(worker.dead_letters) == 1

    run(body)


def test_a_partition_whose_journal_cannot_be_read_is_left_alone_and_the_others_are_not(run):
    async def body(cluster: Cluster) -> None:
        cluster.kafka.append(JOURNAL, None, Unreadable("penstock-journal/0/0 cannot be read"), 0)
        worker = await cluster.start()
        ideas = [idea(f"snail {number}") for number in range(8)]
        cluster.put(*ideas)
        await cluster.settle()
        mine = [one for one in ideas if cluster.partition_of(one) == 1]
        assert 0 < len(mine) < len(ideas)
        assert {one.trace_id for one in cluster.events("text")} == {one.trace_id for one in mine}
        assert "penstock-journal/0/0 cannot be read" in worker.journal.problems.reason
        assert worker.journal.lost(TP("idea", 0), 2, 5) == 3

    run(body, partitions=2)


@pytest.mark.parametrize("key", [b"c|no-step", b"p|too|few", b"i|stage|owner|1", b"b|x"])
def test_a_record_of_the_journal_that_is_none_of_ours_is_left_out(key: bytes, caplog: Any):
    Part().take(key, b"\xff not JSON")
    assert "none of ours" in caplog.text
