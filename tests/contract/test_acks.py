"""What is acked is done, what is not acked comes again: to a new app of the same group."""

import collections
from typing import Any

import pytest

from tests.contract.brokers import Broker, Reader, location, values

ONE_PARTITION = [{"key": b"k", "value": b"%d" % n, "partition": 0} for n in range(10)]


async def test_what_was_acked_is_not_delivered_again_and_the_rest_is(
    broker: Broker, topic: str, group: str
) -> None:
    await broker.write(topic, ONE_PARTITION)
    async with broker.reading(topic, group) as reader:
        events = await reader.take(10)
        for event in events[:4]:
            event.ack()
    async with broker.reading(topic, group) as reader:
        again = await reader.take_all()
    # 4 acked: the committed offset is 4, which is the next to read.
    assert [location(event) for event in again] == [(0, offset) for offset in range(4, 10)]
    assert values(again) == [b"%d" % n for n in range(4, 10)]


async def test_each_partition_has_a_position_of_its_own(
    broker: Broker, topic: str, group: str
) -> None:
    acked = {0: 3, 1: 0, 2: 5, 3: 1}
    await broker.write(
        topic,
        [{"key": b"k", "value": b"-", "partition": part} for part in acked for _ in range(5)],
    )
    async with broker.reading(topic, group) as reader:
        for event in await reader.take(20):
            if event.message.offset < acked[event.message.partition]:
                event.ack()
    async with broker.reading(topic, group) as reader:
        again = await reader.take_all()
    delivered = collections.Counter(event.message.partition for event in again)
    assert delivered == {part: 5 - count for part, count in acked.items() if count < 5}


async def test_when_all_is_acked_nothing_is_delivered_again(
    broker: Broker, topic: str, group: str
) -> None:
    await broker.write(topic, ONE_PARTITION)
    async with broker.reading(topic, group) as reader:
        for event in await reader.take(10):
            event.ack()
    async with broker.reading(topic, group) as reader:
        assert await reader.take_all() == []


async def test_what_was_never_acked_is_delivered_again_each_time(
    broker: Broker, topic: str, group: str
) -> None:
    await broker.write(topic, ONE_PARTITION)
    for _ in range(2):
        async with broker.reading(topic, group) as reader:
            assert values(await reader.take(10)) == [b"%d" % n for n in range(10)]


async def acked_out_of_order(broker: Broker, topic: str, group: str) -> list[Any]:
    """What a second app is given when the first had acked 0, 2, 3 and 7 of ten records."""
    await broker.write(topic, ONE_PARTITION)
    async with broker.reading(topic, group) as reader:
        events = await reader.take(10)
        for offset in (0, 7, 2, 3):
            events[offset].ack()
            # Faust commits now and then by itself; here it does so at the worst moments.
            await reader.app.consumer.commit()
    async with broker.reading(topic, group) as reader:
        return await reader.take_all()


async def test_what_was_not_acked_is_delivered_again_whatever_was_acked_after_it(
    broker: Broker, topic: str, group: str
) -> None:
    # Faust's own consumer on Kafka commits past it (faust-streaming issue 606).
    again = await acked_out_of_order(broker, topic, group)
    assert {b"1", b"4", b"5", b"6", b"8", b"9"} <= set(values(again))


async def test_of_messages_acked_out_of_order_only_the_others_are_delivered_again(
    broker: Broker, topic: str, group: str
) -> None:
    if not broker.embedded:
        pytest.skip(
            "Kafka keeps one offset a partition, so what was acked above it comes again;"
            " the journal recognises it there"
        )
    again = await acked_out_of_order(broker, topic, group)
    assert values(again) == [b"1", b"4", b"5", b"6", b"8", b"9"]


async def test_two_agents_that_read_one_topic_are_both_given_every_message(
    broker: Broker, topic: str, group: str
) -> None:
    await broker.write(topic, ONE_PARTITION)
    async with broker.reading(topic, group, agents=2) as reader:
        for agent in (0, 1):
            assert values(await reader.take(10, agent)) == [b"%d" % n for n in range(10)]


async def test_a_message_is_done_when_each_agent_that_reads_it_has_acked_it(
    broker: Broker, topic: str, group: str
) -> None:
    await broker.write(topic, ONE_PARTITION)
    async with broker.reading(topic, group, agents=2) as reader:
        first, second = await reader.take(10, 0), await reader.take(10, 1)
        for event in first[:6]:
            event.ack()
        for event in second[:4]:
            event.ack()
    async with broker.reading(topic, group, agents=2) as reader:
        for agent in (0, 1):
            again = await reader.take(6, agent)
            assert values(again) == [b"%d" % n for n in range(4, 10)]


async def test_acking_twice_is_acking_once(broker: Broker, topic: str, group: str) -> None:
    await broker.write(topic, ONE_PARTITION)

    async def ack_the_first(reader: Reader, count: int) -> None:
        for event in (await reader.take(count + 1))[:count]:
            event.ack()
            event.ack()

    async with broker.reading(topic, group) as reader:
        await ack_the_first(reader, 3)
    async with broker.reading(topic, group) as reader:
        assert values(await reader.take_all()) == [b"%d" % n for n in range(3, 10)]
