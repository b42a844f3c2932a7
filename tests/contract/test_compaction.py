"""A journal's topic that Kafka has really compacted: what is left tells a new worker the same."""

import asyncio
import contextlib
import json
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from penstock.broker.kafka.records import CALL, journal_of
from penstock.broker.kafka.topics import JOURNAL
from penstock.client import Client
from penstock.project.project import read_project
from penstock.settings import Settings
from tests.programs import PATIENCE_S, environment, wait_until, worker
from tests.servers.kafka import KafkaServer

#: Keys and values, in order.
Records = list[tuple[bytes, bytes | None]]
GROUP = "compacted"
JOURNAL_TOPIC = journal_of(GROUP)
TOPICS = ("asked", "looked", "answered")
#: As small and as soon as Kafka lets them be. What is deleted leaves no trace after a second look.
SMALL = {
    "segment.bytes": str(1024 * 1024),
    "segment.ms": "50",
    "min.cleanable.dirty.ratio": "0.01",
    "delete.retention.ms": "0",
}
#: Runs that end before compaction is waited for.
EARLY = 20

STEPS = """
import asyncio, pathlib
from penstock.steps import Work, step

FOLDER = pathlib.Path(__file__).parents[2]

def note(line: str) -> str:
    with (FOLDER / "calls").open("a") as file:
        file.write(line + "\\n")
    return line

async def hold() -> str:
    (FOLDER / "holding").touch()
    while not (FOLDER / "go").exists():
        await asyncio.sleep(0.01)
    return "went on"

@step("look")
async def look(work: Work) -> str:
    return await work.call("call", note, f"look {work.event.trace_id}")

@step("answer")
async def answer(work: Work) -> str:
    answer = await work.call("first", note, f"answer {work.event.trace_id}")
    if work.parts["asked"] == "hold":
        answer += " " + await work.call("second", hold)
    return answer
"""


def make_project(folder: pathlib.Path) -> pathlib.Path:
    for name in ("agents", "topics", "steps"):
        (folder / name).mkdir(parents=True)
    chain = {
        "pipeline": "held",
        "topics": dict.fromkeys(TOPICS, "a topic"),
        "stages": [
            {"reads": "asked", "step": "look", "writes": "looked"},
            {"reads": "looked", "step": "answer", "writes": "answered"},
        ],
    }
    (folder / "topics" / "held.yaml").write_text(json.dumps(chain))  # JSON is YAML
    (folder / "steps" / "work.py").write_text(STEPS)
    return folder


async def make_journal(address: str) -> None:
    """The journal's topic is there, of one partition, so that all others get one, too."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        topic = NewTopic(JOURNAL_TOPIC, 1, 1, topic_configs=JOURNAL | SMALL)
        await admin.create_topics([topic])
    finally:
        await admin.close()


@contextlib.asynccontextmanager
async def reading(address: str, topic: str) -> AsyncIterator[Callable[[], Awaitable[Records]]]:
    """Inside, each call gives the records that are left in the topic's partition."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=address, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    partition = TopicPartition(topic, 0)

    async def read() -> Records:
        end = (await consumer.end_offsets([partition]))[partition]
        await consumer.seek_to_beginning(partition)
        found: Records = []
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                found += [(record.key, record.value) for record in records]
        return found

    await consumer.start()
    try:
        consumer.assign([partition])
        yield read
    finally:
        await consumer.stop()


async def read(address: str, topic: str) -> Records:
    async with reading(address, topic) as found:
        return await found()


def calls_of(events: set[str], records: Records) -> dict[bytes, bytes | None]:
    """The answers that were recorded of the steps of `events`, or None where they are deleted."""
    calls = {key: value for key, value in records if key.startswith(CALL)}
    return {key: value for key, value in calls.items() if key.decode().split("/")[1] in events}


async def run_to_the_end(client: Client, count: int) -> tuple[list[str], set[str]]:
    """Runs that are over; their trace ids, and the ids of their events."""
    traces = await client.submit_many("held", [({"asked": "go on"}, None)] * count)
    runs = [await client.wait(trace_id) for trace_id in traces]
    return traces, {entry.event.id for run in runs for entry in run.entries}


async def run_until_compacted(client: Client, held: set[str], address: str) -> list[str]:
    """Runs that are over; of the first of them no answer is left on the journal's topic, and not
    even that it was deleted. Of the events `held` there is."""
    async with reading(address, JOURNAL_TOPIC) as journal, asyncio.timeout(PATIENCE_S):
        before = calls_of(held, await journal())
        done, early = await run_to_the_end(client, EARLY)
        while calls_of(early, records := await journal()):
            # A segment is closed only by what is written after it, and only then compacted.
            done += (await run_to_the_end(client, 1))[0]
    assert any(before.values()) and calls_of(held, records) == before
    return done


@pytest.mark.timeout(180)
async def test_a_compacted_journal_recalls_what_is_unfinished_and_knows_what_is_finished(
    tmp_path: pathlib.Path, kafka_to_kill: KafkaServer
) -> None:
    server = kafka_to_kill
    await make_journal(server.address)
    env = environment(
        tmp_path,
        PENSTOCK_BROKER=f"kafka://{server.address}",
        PENSTOCK_PROJECT=str(make_project(tmp_path / "project")),
        PENSTOCK_APP_ID=GROUP,
        PENSTOCK_WORKER_ID="the-one",  # the next takes the place of the killed one at once
    )
    settings = Settings.read(env)
    async with Client(settings, read_project(settings.root)) as client:
        with worker(env, tmp_path) as running:
            # The first in its partition, so the group's commit cannot pass it.
            held = await client.submit("held", {"asked": "hold"})
            wait_until((tmp_path / "holding").exists, "the second call")
            looked = (await client.read(held)).entries[-1]
            done = await run_until_compacted(client, {looked.event.id}, server.address)
            running.kill()
        (tmp_path / "go").touch()
        with worker(env, tmp_path) as running:
            # What is finished comes again from the held run's place on, before the last run.
            last = await client.submit("held", {"asked": "go on"})
            async with asyncio.timeout(PATIENCE_S):
                for trace_id in (held, last):
                    await client.wait(trace_id)
            assert running.stop() == 0
    answered = await read(server.address, "answered")
    runs = [held, *done, last]
    made = (tmp_path / "calls").read_text().splitlines()
    assert sorted(made) == sorted(f"{step} {one}" for one in runs for step in ("look", "answer"))
    assert sorted(key.decode() for key, _ in answered) == sorted(runs)
    answer = dict(answered)[held.encode()]
    assert answer is not None and f"answer {held} went on".encode() in answer
