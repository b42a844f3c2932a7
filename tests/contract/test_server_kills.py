"""A real Kafka that is killed, and started again on the same data and the same port."""

import pathlib

import pytest

from tests.contract.brokers import kafka_broker, make_topics, place
from tests.contract.processes import process
from tests.servers.kafka import KafkaServer


@pytest.mark.timeout(120)
async def test_what_a_server_acked_before_kill_9_is_there_afterwards(
    kafka_to_kill: KafkaServer, tmp_path: pathlib.Path, group: str
) -> None:
    broker, topic = kafka_broker(kafka_to_kill.address, tmp_path), "kept"
    await make_topics(broker, topic)
    early = await broker.write(topic, [{"key": b"k", "value": b"early"}] * 9)
    async with broker.reading(topic, group) as reader:
        for event in await reader.take(len(early)):
            event.ack()
    # Killed while it is sent to. What was on its way is sent again by the same producer.
    with process("producer", broker, topic=topic, records=500, name="ann") as producer:
        assert producer.stdin is not None and producer.stdout is not None
        assert producer.stdout.readline() == "ready\n"
        print(file=producer.stdin, flush=True)
        acked = [producer.stdout.readline() for _ in range(100)]
        kafka_to_kill.kill()
        kafka_to_kill.start()
        acked += producer.communicate()[0].splitlines()
    assert len(acked) == 500
    async with broker.reading(topic, group) as reader:
        there = {place(event): event.value for event in await reader.take_all()}
    for number, line in enumerate(acked):
        partition, offset = map(int, line.split())
        assert there.get((partition, offset)) == b"%d" % number
    # What the group had committed does not come again.
    assert not {(one.partition, one.offset) for one in early} & there.keys()
