"""A real Kafka that is killed, and started again on the same data and the same port."""

import pathlib

import pytest

from tests.contract.brokers import kafka_broker, location, make_topics
from tests.contract.processes import process
from tests.programs import environment, penstock, worker
from tests.servers.fixtures import kafka_or_skip
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
        there = {location(event): event.value for event in await reader.take_all()}
    for number, line in enumerate(acked):
        partition, offset = map(int, line.split())
        assert there.get((partition, offset)) == b"%d" % number
    # What the group had committed does not come again.
    assert not {(one.partition, one.offset) for one in early} & there.keys()


PASSWORD, OTHER = "open-sesame-7d1f", "shut-sesame-7d1f"
PLAIN = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_me="{PASSWORD}";'


@pytest.mark.timeout(180)
def test_a_running_worker_waits_until_kafka_lets_it_in_again(tmp_path: pathlib.Path) -> None:
    secured = {
        "listener.name.password.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.password.plain.sasl.jaas.config": PLAIN,
    }
    listeners = {"PASSWORD": "SASL_PLAINTEXT"}
    with kafka_or_skip(tmp_path / "kafka", listeners=listeners, extra=secured) as server:
        env = environment(
            tmp_path,
            PENSTOCK_BROKER=f"kafka://{server.address}",
            PENSTOCK_KAFKA_SASL="PLAIN",
            PENSTOCK_KAFKA_USER="me",
            PENSTOCK_KAFKA_PASSWORD=PASSWORD,
            PENSTOCK_SEED="0",
            PENSTOCK_SESSION_S="3",
        )
        properties = tmp_path / "kafka" / "server.properties"
        with worker(env, tmp_path) as running:
            for old, new, said in (
                (PASSWORD, OTHER, "refuses PENSTOCK_KAFKA_USER and PENSTOCK_KAFKA_PASSWORD"),
                (OTHER, PASSWORD, "answers again"),
            ):
                server.kill()
                properties.write_text(properties.read_text().replace(old, new))
                server.start()
                running.wait_for(said)
            sent = penstock("submit", "story", "--premise", "A shy volcano", "--wait", env=env)
            assert sent.returncode == 0 and "Final Story Output" in sent.stdout, sent.stderr
            assert running.stop() == 0
    assert "Traceback" not in running.text()
