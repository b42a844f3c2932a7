"""Where records go: their topic, their partition, their offset, and in which order they come."""

import collections
import itertools
from typing import Any

import pytest
from faust.types import TP

from tests.contract.brokers import (
    KAFKA,
    MOCK,
    PARTITIONS,
    Broker,
    location,
    raw_topic,
    started,
    values,
)

#: murmur2 of keys as Kafka's own tests have it (UtilsTest.java), and of the empty key.
MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
    b"": 275646681,
}


def numbered(count: int, keys: int = 7) -> list[dict[str, Any]]:
    """Records 0, 1, 2... over a few keys."""
    return [{"key": b"key %d" % (n % keys), "value": b"%d" % n} for n in range(count)]


async def test_records_of_a_partition_arrive_in_the_order_in_which_they_were_sent(
    broker: Broker, topic: str, group: str
) -> None:
    await broker.write(topic, numbered(300))
    async with broker.reading(topic, group) as reader:
        events = await reader.take(300)
    received = collections.defaultdict(list)
    for event in events:
        received[event.message.partition].append(int(event.value))
    assert len(received) > 1, "the keys are all in one partition"
    assert all(numbers == sorted(numbers) for numbers in received.values())
    assert sorted(itertools.chain.from_iterable(received.values())) == list(range(300))


async def test_offsets_begin_at_zero_and_have_no_holes(
    broker: Broker, topic: str, group: str
) -> None:
    # Two producers, one after the other: the second goes on where the first ended.
    await broker.write(topic, numbered(40))
    await broker.write(topic, numbered(40))
    async with broker.reading(topic, group) as reader:
        events = await reader.take(80)
    offsets = collections.defaultdict(list)
    for event in events:
        offsets[event.message.partition].append(event.message.offset)
    for found in offsets.values():
        assert found == list(range(len(found)))


async def test_a_record_is_where_its_delivery_report_said(
    broker: Broker, topic: str, group: str
) -> None:
    sent = await broker.write(topic, numbered(20))
    async with broker.reading(topic, group) as reader:
        events = await reader.take(20)
    reported = {b"%d" % n: (one.partition, one.offset) for n, one in enumerate(sent)}
    assert {one.topic for one in sent} == {topic}
    assert {event.value: location(event) for event in events} == reported


async def test_a_key_is_in_the_partition_that_kafka_s_own_clients_choose(
    broker: Broker, topic: str
) -> None:
    sent = await broker.write(topic, [{"key": key, "value": b"-"} for key in MURMUR2])
    expected = [(hashed & 0x7FFFFFFF) % PARTITIONS for hashed in MURMUR2.values()]
    assert [one.partition for one in sent] == expected


async def test_equal_keys_are_in_one_partition_on_every_topic(broker: Broker, topic: str) -> None:
    keys = [b"run %d" % n for n in range(20)]
    first = await broker.write(topic, [{"key": key, "value": b"-"} for key in keys])
    again = await broker.write(topic + "-2", [{"key": key, "value": b"-"} for key in keys])
    assert [one.partition for one in first] == [one.partition for one in again]


async def test_a_partition_that_the_producer_names_is_taken(
    broker: Broker, topic: str, group: str
) -> None:
    named = [{"key": b"k", "value": b"%d" % n, "partition": n} for n in range(PARTITIONS)]
    await broker.write(topic, named)
    async with broker.reading(topic, group) as reader:
        events = await reader.take(PARTITIONS)
    assert {event.value: location(event) for event in events} == {
        b"%d" % n: (n, 0) for n in range(PARTITIONS)
    }


async def test_a_topic_is_made_by_the_first_produce(broker: Broker, topic: str, group: str) -> None:
    if broker.name == KAFKA:
        pytest.skip("whether Kafka makes topics so is its own setting; an app declares its topics")
    (sent,) = await broker.write(topic, [{"key": b"k", "value": b"first"}])
    assert (sent.topic, sent.offset) == (topic, 0)
    await assert_is_assigned_whole(broker, topic, group)


async def test_a_topic_that_an_app_declares_is_there_when_it_has_started(
    broker: Broker, topic: str, group: str
) -> None:
    if broker.name == MOCK:
        pytest.skip("the mock cluster cannot be told of a topic: it makes any that is asked for")
    await assert_is_assigned_whole(broker, topic + "-new", group)
    (sent,) = await broker.write(topic + "-new", [{"key": b"k", "value": b"first"}])
    assert sent.offset == 0


async def assert_is_assigned_whole(broker: Broker, name: str, group: str) -> None:
    app = broker.app(group)

    @app.agent(raw_topic(app, name))
    async def read(stream: Any) -> None:
        async for _ in stream:
            pass

    async with started(app):
        assert app.consumer.assignment() == {TP(name, n) for n in range(PARTITIONS)}


async def test_a_consumer_that_joins_later_reads_from_the_start(
    broker: Broker, topic: str, group: str
) -> None:
    await broker.write(topic, numbered(10))
    async with broker.reading(topic, group) as reader:
        assert {*values(await reader.take_all())} == {b"%d" % n for n in range(10)}


async def test_another_group_reads_everything_again(broker: Broker, topic: str, group: str) -> None:
    if broker.embedded:
        pytest.skip("an embedded file has one group: its positions belong to readers, not to apps")
    await broker.write(topic, numbered(10))
    for name in (group, group + "-2"):
        async with broker.reading(topic, name) as reader:
            events = await reader.take_all()
            assert len(events) == 10
            for event in events:
                event.ack()


async def test_a_record_reaches_a_reader_that_waits_for_it(
    broker: Broker, topic: str, group: str
) -> None:
    async with broker.reading(topic, group) as reader:
        assert await reader.take_all() == []
        await broker.write(topic, [{"key": b"k", "value": b"late"}])
        assert values(await reader.take_up_to_now()) == [b"late"]


async def test_a_reader_slower_than_its_buffer_is_given_everything_in_order(
    broker: Broker, topic: str, group: str
) -> None:
    await broker.write(topic, numbered(60, keys=1))
    app = broker.app(group, stream_buffer_maxsize=16)
    received: list[int] = []

    @app.agent(raw_topic(app, topic))
    async def read(stream: Any) -> None:
        async for value in stream:
            received.append(int(value))
            for _ in range(5):  # others get the loop meanwhile, and fill the buffer
                await app.sleep(0)

    async with started(app):
        while len(received) < 60:
            await app.sleep(0.01)
    assert received == list(range(60))
