"""The brokers under contract, and the ordinary Faust app that every test drives them with.

A test writes to and reads from a broker only as any Faust program would: agents, topics, tables,
`topic.send`, `event.ack`. So one test says the same of all of them.
"""

import asyncio
import contextlib
import dataclasses
import pathlib
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import faust
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from faust.types import RecordMetadata

from penstock.broker.embedded.transport import Transport as EmbeddedTransport
from penstock.broker.kafka.transport import faust_url
from penstock.worker.faust_parts import Boot, Tables

#: Partitions of every topic: what librdkafka's mock cluster gives a topic that nobody declared.
PARTITIONS = 4
#: Seconds that one record may take to come: the machine may be busy with other things.
PATIENCE_S = 30.0

SQLITE, MOCK, KAFKA = "sqlite", "mock-kafka", "kafka"


@dataclasses.dataclass(frozen=True)
class Broker:
    """One broker: where it is, and what Faust has to be told of it beyond its address."""

    name: str
    url: str
    folder: pathlib.Path
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def embedded(self) -> bool:
        return self.name == SQLITE

    def app(self, group: str, **settings: Any) -> faust.App:
        """A Faust app of the consumer group `group`, not started yet."""
        return _App(
            group,
            broker=self.url if self.embedded else faust_url(self.url),
            topic_partitions=PARTITIONS,
            topic_disable_leader=True,
            datadir=str(self.folder / f"faust-{uuid.uuid4().hex}"),
            autodiscover=False,
            # A test decides what is acked: a stopping app does not wait for the rest.
            stream_wait_empty=False,
            **{"TableManager": Tables, **self.settings, **settings},
        )

    @contextlib.asynccontextmanager
    async def reading(
        self, name: str, group: str, agents: int = 1, table: str | None = None
    ) -> AsyncIterator["Reader"]:
        """A new app of `group` that reads the topic `name` with so many agents, and has a table
        when one is named. What it takes is acked only where the test says so."""
        app, end = self.app(group), new_end()
        reader = Reader(app, name, agents, end)
        if table is not None:
            reader.table = app.Table(table, key_type=str, value_type=str, partitions=PARTITIONS)
        await self.write(name, ends(end))
        async with started(app):
            yield reader

    @contextlib.asynccontextmanager
    async def writing(self, name: str) -> AsyncIterator["Writer"]:
        """An app that only produces to the topic `name`: it is in no group and declares nothing."""
        app = self.app(f"writer-{uuid.uuid4().hex}")
        await app.maybe_start_producer()
        try:
            yield Writer(app, name)
        finally:
            await app.producer.stop()
            _let_go(app)

    async def write(self, name: str, records: Iterable[Mapping[str, Any]]) -> list[RecordMetadata]:
        """`records` are on the topic `name`; where each of them is."""
        async with self.writing(name) as writer:
            return await writer.send(records)


def kafka_broker(
    address: str,
    folder: pathlib.Path,
    name: str = KAFKA,
    session_s: float = 3.0,
    **settings: Any,
) -> Broker:
    """The Kafka at `address`. A killed member's partitions stand still for `session_s` there."""
    settings |= {
        "producer_max_batch_size": 256 * 1024,
        "broker_session_timeout": session_s,
        "broker_heartbeat_interval": session_s / 4,
    }
    return Broker(name, f"kafka://{address}", folder, settings)


async def make_topics(broker: Broker, *names: str) -> None:
    """`names` are on a real Kafka, which makes no topic because somebody sends to it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.url.removeprefix("kafka://"))
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
    finally:
        await admin.close()


class _App(faust.App):
    BootStrategy = Boot  # without Faust's web server


@contextlib.asynccontextmanager
async def started(app: faust.App) -> AsyncIterator[faust.App]:
    """`app` runs: its partitions are assigned and its tables recovered."""
    try:
        await app.start()
        await asyncio.wait_for(_recovered(app), PATIENCE_S)
        yield app
    finally:
        await app.stop()
        _let_go(app)


def _let_go(app: faust.App) -> None:
    """What the end of a process does by itself: the embedded file and its lock are free."""
    if isinstance(app.transport, EmbeddedTransport):
        app.transport.store.close()


async def _recovered(app: faust.App) -> None:
    # Mode's own event, which a service's crash interrupts.
    tables: Any = app.tables
    while not tables.recovery.completed.is_set():
        if app.crash_reason is not None:
            raise app.crash_reason
        await asyncio.sleep(0.01)


def raw_topic(app: faust.App, name: str) -> Any:
    """The topic `name`, as bytes. 'internal' has Faust declare it, where that can be done."""
    return app.topic(
        name,
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
        internal=True,
    )


class Writer:
    """Sends to one topic."""

    def __init__(self, app: faust.App, name: str) -> None:
        self.topic = raw_topic(app, name)

    async def send(self, records: Iterable[Mapping[str, Any]]) -> list[RecordMetadata]:
        """`records` were sent in their order and are durable; where each of them is."""
        sent = [await self.topic.send(**record) for record in records]
        return [await one for one in sent]


class Reader:
    """One or more agents over one topic, and what they were given, in the order in which it came.

    Everything is acked by the test: `events[n].ack()`.
    """

    def __init__(self, app: faust.App, name: str, agents: int, end: bytes) -> None:
        self.app = app
        self.events: list[list[Any]] = [[] for _ in range(agents)]
        #: Where the agents note each place that they were given, when the test wants a table.
        self.table: Any = None
        self._end = end
        self._ends: list[list[bytes]] = [[] for _ in range(agents)]
        self._arrived = asyncio.Event()
        topic = raw_topic(app, name)
        self._writer = Writer(app, name)
        for number in range(agents):
            self._declare(topic, number)

    def _declare(self, topic: Any, number: int) -> None:
        async def read(stream: Any) -> None:
            async for event in stream.noack().events():
                if (event.value or b"").startswith(END):
                    self._ends[number].append(event.value)
                else:
                    self.events[number].append(event)
                if self.table is not None:
                    self.table[f"{number} {location(event)}"] = "seen"
                self._arrived.set()

        read.__name__ = read.__qualname__ = f"read_{number}"
        self.app.agent(topic, name=read.__name__)(read)

    async def take(self, count: int, agent: int = 0) -> list[Any]:
        """The first `count` events that came."""
        events = self.events[agent]
        await self._until(lambda: len(events) >= count)
        return events[:count]

    async def take_all(self, agent: int = 0) -> list[Any]:
        """Every event that this app is given of what was on the topic when it started."""
        await self._until(lambda: self._ends[agent].count(self._end) == PARTITIONS)
        return list(self.events[agent])

    async def take_up_to_now(self, agent: int = 0) -> list[Any]:
        """Every event that this app is given of what is on the topic now."""
        self._end = new_end()
        await self._writer.send(ends(self._end))
        return await self.take_all(agent)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._arrived.clear()
                await self._arrived.wait()


#: How the values begin that say: whatever was in this partition before has come by now. They are
#: never acked, and not among a reader's events.
END = b"end "


def new_end() -> bytes:
    return END + uuid.uuid4().hex.encode()


def ends(value: bytes) -> list[dict[str, Any]]:
    """A record for the end of each partition."""
    return [{"value": value, "partition": partition} for partition in range(PARTITIONS)]


def location(event: Any) -> tuple[int, int]:
    """Where an event stands: its partition and its offset."""
    return event.message.partition, event.message.offset


def values(events: Iterable[Any]) -> list[bytes | None]:
    return [event.value for event in events]
