"""A Kafka that nobody has used yet: the first commands on it."""

import asyncio
import pathlib

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.programs import Worker, environment, penstock
from tests.servers.fixtures import kafka_or_skip
from tests.servers.kafka import KafkaServer

pytestmark = pytest.mark.timeout(120)


def test_the_first_command_on_a_new_kafka_writes_a_story(tmp_path: pathlib.Path) -> None:
    with kafka_or_skip(tmp_path / "kafka") as server:
        env = environment(tmp_path, PENSTOCK_BROKER=f"kafka://{server.address}")
        shown = penstock("story", "A shy volcano", env=env)
        assert shown.returncode == 0 and "Final Story Output" in shown.stdout, shown.stderr


@pytest.fixture
def env(kafka_to_kill: KafkaServer, tmp_path: pathlib.Path, group: str) -> dict[str, str]:
    return environment(
        tmp_path,
        PENSTOCK_BROKER=f"kafka://{kafka_to_kill.address}",
        PENSTOCK_APP_ID=group,
        PENSTOCK_SEED="0",
    )


def test_runs_that_are_submitted_before_any_worker_wait_for_one(
    env: dict[str, str], tmp_path: pathlib.Path
) -> None:
    sent = penstock("submit", "story", "--premise", "A shy volcano", env=env)
    assert sent.returncode == 0 and "No worker is running" in sent.stderr, sent.stderr
    worker = Worker(env, tmp_path)
    try:
        worker.wait_for(f"Final Story Output for Trace ID {sent.stdout.strip()}")
        assert worker.stop() == 0
    finally:
        worker.kill()


async def _make(address: str, topic: NewTopic) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        async with asyncio.timeout(30):
            # The one of the test before may still be on its way out.
            while any(one[1] for one in (await admin.create_topics([topic])).topic_errors):
                await admin.delete_topics([topic.name])
                await asyncio.sleep(0.2)
            # The controller has made it; the broker hears of it a moment later.
            while (
                len((await admin.describe_topics([topic.name]))[0]["partitions"])
                != topic.num_partitions
            ):
                await asyncio.sleep(0.2)
    finally:
        await admin.close()


def test_topics_that_would_lose_events_or_split_runs_are_named(
    env: dict[str, str], kafka_to_kill: KafkaServer, tmp_path: pathlib.Path
) -> None:
    address = kafka_to_kill.address
    short = {"retention.ms": "60000"}
    asyncio.run(_make(address, NewTopic("plot", 2, 1, topic_configs=short)))
    asked = penstock("doctor", env=env)
    warning = "the topic 'plot' has retention.ms=60000, not -1: Kafka may delete events"
    assert asked.returncode == 1 and warning in asked.stdout + asked.stderr
    worker = Worker(env, tmp_path)
    try:
        worker.ready()
        assert warning in worker.text() and worker.stop() == 0
    finally:
        worker.kill()

    asyncio.run(_make(address, NewTopic("tale", 3, 1)))
    chain = "pipeline: tale\ntopics: {plot: One, tale: Two}\n"
    chain += "stages: [{reads: plot, step: present, writes: tale}]\n"
    (tmp_path / "project" / "topics").mkdir(parents=True)
    (tmp_path / "project" / "topics" / "tale.yaml").write_text(chain)
    env["PENSTOCK_PROJECT"] = str(tmp_path / "project")
    for command in ("worker", "doctor"):
        said = penstock(command, env=env)
        text = said.stdout + said.stderr
        assert said.returncode == 1, text
        assert "unequal partition counts (" in text and "plot: 2, tale: 3" in text
        assert "Traceback" not in text
