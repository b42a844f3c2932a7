"""What Faust 0.15.3 gets wrong on Kafka and `app.broker.kafka_transport` mends, a test of each.

One more is in test_acks, as it holds on every broker: a commit that passes what is not acked (issue
606).
"""

from typing import Any

import pytest

from tests.contract.brokers import PARTITIONS, Broker, Reader, started, values

RECORDS = [{"key": b"k", "value": b"%d" % n, "partition": 0} for n in range(10)]
ALL = [b"%d" % n for n in range(10)]


@pytest.fixture(autouse=True)
def _on_kafka(broker: Broker) -> None:
    if broker.embedded:
        pytest.skip("the embedded broker does not use Faust's consumer")


async def seek(reader: Reader) -> None:
    """What Faust does after every rebalance."""
    consumer: Any = reader.app.consumer
    consumer.stop_flow()
    await consumer.perform_seek()
    consumer.resume_flow()


async def test_what_was_in_flight_comes_again_after_a_seek_when_nothing_was_ever_committed(
    broker: Broker, topic: str, group: str
) -> None:
    # aiokafka's seek_to_committed leaves such a partition where it is.
    await broker.write(topic, RECORDS)
    async with broker.reading(topic, group) as reader:
        await reader.take(10)
        await seek(reader)
        assert values(await reader.take(20))[10:] == ALL


async def test_an_ack_of_before_a_seek_does_not_count_after_it(
    broker: Broker, topic: str, group: str
) -> None:
    # After a rebalance it would count for a partition that somebody else had meanwhile.
    await broker.write(topic, RECORDS)
    async with broker.reading(topic, group) as reader:
        before = await reader.take(10)
        await seek(reader)
        again = (await reader.take(20))[10:]
        for event in before:
            event.ack()
        for event in again[:3]:
            event.ack()
    async with broker.reading(topic, group) as reader:
        assert values(await reader.take_all()) == ALL[3:]


async def test_the_rest_of_a_batch_that_the_flow_was_stopped_in_is_not_lost(
    broker: Broker, topic: str, group: str
) -> None:
    # Faust throws it away with the fetch position already moved, and takes the gap for acked.
    await broker.write(topic, [RECORDS[0] | {"value": b"%d" % n} for n in range(3000)])
    async with broker.reading(topic, group) as reader:
        events = await reader.take(10)
        await seek(reader)
        while len({event.message.offset for event in events}) < 3000:
            events = await reader.take(len(events) + 1)
        for event in events:
            event.ack()
    async with broker.reading(topic, group) as reader:
        assert await reader.take_all() == []


async def test_a_recovery_lets_partitions_go_only_while_nothing_is_delivered(
    broker: Broker, topic: str, group: str
) -> None:
    # Faust's delivers between there and the seek that follows: twice, or not until a restart.
    await broker.write(topic, RECORDS)
    app = broker.app(group)
    app.Table(f"{topic}-2", key_type=str, value_type=str, partitions=PARTITIONS)
    consumer: Any = app.consumer
    let_go, flowing = consumer.resume_partitions, []

    def watched(tps: Any) -> None:
        flowing.append(consumer.flow_active)
        let_go(tps)

    consumer.resume_partitions = watched
    async with started(app):
        pass
    assert flowing and not any(flowing)
