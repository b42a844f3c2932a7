"""Reading Kafka's topics from outside the worker: a consumer without a group, behind the same
methods as the embedded reader. It reads every topic from its start, into memory.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Collection, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaError,
)
from faust.types import TP

from penstock.broker.embedded.reading import ONE_WORKER, Found
from penstock.broker.kafka import topics as kafka_topics
from penstock.broker.kafka.connection import check_access, connection
from penstock.broker.kafka.records import CALL, Part, id_of, journal_of
from penstock.errors import BrokerUnavailable
from penstock.record import dead_letters as deadletters
from penstock.settings import Settings

T = TypeVar("T")

#: Seconds in which a Kafka that has just been made finds a coordinator for a group.
COORDINATOR_S = 15.0
#: Milliseconds that Kafka may wait for something new before it answers.
FETCH_WAIT_MS = 100


class KafkaReader:
    """Reads a project's topics beside its workers. aiokafka lives on a loop and thread of its own,
    since whoever reads calls from a thread."""

    def __init__(
        self, settings: Settings, topics: Sequence[str], one_worker: Collection[str] = ()
    ) -> None:
        self.group = settings.app_id
        self.log = journal_of(settings.app_id)
        self._letters = deadletters.topic_name(settings.app_id)
        self.topics = [*topics, self.log]
        self._one_worker = one_worker
        self._connection = connection(settings)
        self.servers = self._connection["bootstrap_servers"]
        self._settings = settings
        self._admin: Any = None
        self._consumer: Any = None
        #: Asks for ends on a connection of its own: behind a fetch it would wait as long as that.
        self._asker: Any = None
        self._producer: Any = None
        self._next: dict[TopicPartition, int] = {}
        self._committed: dict[TP, int] = {}
        self._parts: dict[int, Part] = {}
        self._coming: list[tuple[int, bytes, bytes | None]] = []
        self._found: dict[str, dict[bytes, list[Found]]] = {topic: {} for topic in topics}
        self._ids: set[tuple[str, str]] = set()
        self._count = 0
        self._reading = asyncio.Lock()
        self._one_at_a_time = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="penstock-kafka-reader", daemon=True
        )
        self._thread.start()
        # What aiokafka complains of is raised; without a handler it would be printed as well.
        logging.getLogger("aiokafka").addHandler(logging.NullHandler())

    # -- what is read

    def worker_running(self) -> bool:
        """Whether the group has a member; true where the broker cannot say."""
        return self._call(self._has_member())

    def version(self) -> int:
        """Changes whenever something was added."""
        self._call(self._read(0))
        return self._count

    def find(self, topic: str, key: bytes | None, start: int = 0) -> list[Found]:
        """The records of `key` on `topic` from offset `start` on; with no key, all of them. An
        event that is there twice, as a crash can leave it, is found once."""
        if not self._next:
            self._call(self._catch_up())
        by_key = self._found[topic]
        keys = by_key if key is None else [key] if key in by_key else []
        return [found for one in keys for found in by_key[one] if found.offset >= start]

    def unfinished(self, reader: str, topic: str) -> int:
        """How many records of `topic` its reader has not finished: what is in flight counts."""
        with self.snapshot():
            return sum(not self.is_done(reader, found) for found in self.find(topic, None))

    def is_done(self, reader: str, record: Found) -> bool:
        if record.offset < self._committed.get(TP(record.topic, record.partition), 0):
            return True
        part = self._parts.get(record.partition, Part())
        stretches = part.stretches.get((reader, record.topic), {}).values()
        if any(one.is_done(record.offset) for one in stretches):
            return True
        return reader in part.known and id_of(record) in part.known[reader].ids

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Inside, what is found is at least what was on the topics at the beginning."""
        with self._one_at_a_time:
            self._call(self._catch_up())
            yield

    def append(
        self, topic: str, rows: Sequence[tuple[bytes, bytes]], partition: int | None = None
    ) -> list[tuple[int, int]]:
        """`rows`, key and value, are on `topic`, one after the other: not all or nothing. The
        partition, which the key decides if nobody else, and offset of each."""
        return self._call(self._append(topic, rows, partition))

    def close(self) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except KafkaError as exc:
            told = asyncio.run_coroutine_threadsafe(check_access(self._connection), self._loop)
            told.result()
            servers = ", ".join(self.servers)
            raise BrokerUnavailable(
                f"Kafka at {servers} does not answer as it should: {exc}"
            ) from exc

    # -- on the reader's own loop

    async def _started(self) -> None:
        if self._admin is not None:
            return
        admin = AIOKafkaAdminClient(**self._connection)
        consumer, asker = (
            AIOKafkaConsumer(
                **self._connection,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                fetch_max_wait_ms=FETCH_WAIT_MS,
            )
            for _ in range(2)
        )
        try:
            await admin.start()
            await consumer.start()
            await asker.start()
        except KafkaError:
            await asker.stop()
            await consumer.stop()
            await admin.close()
            raise
        self._admin, self._consumer, self._asker = admin, consumer, asker

    async def _catch_up(self) -> None:
        """Marks are taken over after the records that were there before them: a step's mark comes
        after its outputs, so no run is found that seems to be over because they are missing."""
        await self._started()
        there = await self._assigned()
        if not there:
            return
        read = [tp for tp in there if tp.topic != self.log]
        await self._read_to([tp for tp in there if tp.topic == self.log])
        committed = await self._admin.list_consumer_group_offsets(self.group, partitions=read)
        marks, self._coming = self._coming, []
        await self._read_to(read)
        for partition, key, value in marks:
            self._parts.setdefault(partition, Part()).take(key, value)
        self._committed = {TP(*tp): found.offset for tp, found in committed.items()}

    async def _assigned(self) -> list[TopicPartition]:
        there = [
            TopicPartition(topic["topic"], one["partition"])
            for topic in await self._admin.describe_topics(self.topics)
            for one in topic["partitions"]
        ]
        async with self._reading:
            if set(there) != self._consumer.assignment():
                self._consumer.assign(there)
                for tp in there:
                    self._consumer.seek(tp, self._next.setdefault(tp, 0))
        return there

    async def _read_to(self, tps: Sequence[TopicPartition]) -> None:
        """What is on `tps` now has been read."""
        ends = await self._asker.end_offsets(tps)
        firsts = await self._asker.beginning_offsets(tps)  # retention may have taken some
        while any(max(self._next[tp], firsts[tp]) < end for tp, end in ends.items()):
            await self._read(FETCH_WAIT_MS)

    async def _read(self, wait_ms: int) -> None:
        async with self._reading:
            if not self._next:
                return
            batches = await self._consumer.getmany(timeout_ms=wait_ms)
            for tp, records in batches.items():
                for record in records:
                    self._note(tp, record)
                self._next[tp] = records[-1].offset + 1

    def _note(self, tp: TopicPartition, record: Any) -> None:
        self._count += 1
        key, value = record.key or b"", record.value or b""
        if tp.topic == self.log:
            if not key.startswith(CALL):
                self._coming.append((tp.partition, key, record.value))
            return
        id_ = (tp.topic, id_of(record))
        # A dead letter is written again when it is closed.
        if id_ not in self._ids or tp.topic == self._letters:
            self._ids.add(id_)
            found = Found(tp.topic, tp.partition, record.offset, record.timestamp, key, value)
            self._found[tp.topic].setdefault(key, []).append(found)

    async def _has_member(self) -> bool:
        await self._started()
        deadline = time.monotonic() + COORDINATOR_S
        while True:
            try:
                (answer,) = await self._admin.describe_consumer_groups([self.group])
                break
            except (CoordinatorLoadInProgressError, CoordinatorNotAvailableError):
                # A Kafka that has never had a group makes what it keeps groups in first.
                if time.monotonic() > deadline:
                    return True
            except KafkaError:
                return True
            await asyncio.sleep(0.1)
        ((_, _, _, _, _, members, *_),) = answer.groups
        return bool(members)

    async def _append(
        self, topic: str, rows: Sequence[tuple[bytes, bytes]], partition: int | None
    ) -> list[tuple[int, int]]:
        await self._started()
        there = {found["topic"] for found in await self._admin.describe_topics()}
        if topic not in there:
            # No worker has been here yet; the runs wait for it.
            await kafka_topics.declare(
                self._connection,
                self.topics[:-1],
                self.log,
                self._settings.partitions,
                self._settings.replication,
                self._settings.max_event_bytes,
            )
        if self._producer is None:
            producer = AIOKafkaProducer(
                **self._connection,
                acks="all",
                max_request_size=self._settings.max_event_bytes + 10_000,
            )
            try:
                await producer.start()
            except KafkaError:
                await producer.stop()
                raise
            self._producer = producer
        if topic in self._one_worker:
            partition = ONE_WORKER
        sending = [await self._producer.send(topic, value, key, partition) for key, value in rows]
        sent = [await one for one in sending]
        return [(record.partition, record.offset) for record in sent]

    async def _close(self) -> None:
        for one in (self._producer, self._consumer, self._asker):
            if one is not None:
                await one.stop()
        if self._admin is not None:
            await self._admin.close()
