"""Kafka for a process that is no worker: begin runs, append, and read every topic into memory."""

import asyncio
import contextlib
import dataclasses
import logging
import threading
import time
import uuid
from collections.abc import Collection, Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaError,
)
from faust.types import TP

from penstock.broker.contract import (
    FOLLOW_BYTES,
    ONE_WORKER,
    Beginning,
    Extent,
    Found,
    Location,
    Plan,
    Row,
    Spans,
    Unread,
)
from penstock.broker.kafka import topics as kafka_topics
from penstock.broker.kafka.connection import check_access, connection
from penstock.broker.kafka.progress import Stretch
from penstock.broker.kafka.records import journal_of, reader_key, stretch_key
from penstock.broker.kafka.sending import record_bytes, send
from penstock.broker.kafka.standing import Standing, standing
from penstock.broker.kafka.view import View
from penstock.errors import BrokerUnavailable, PenstockError
from penstock.record.events import Unreadable
from penstock.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds in which a new Kafka finds a coordinator for a group.
COORDINATOR_S = 15.0
#: Milliseconds that Kafka may wait for something new before it answers.
FETCH_WAIT_MS = 100
#: Seconds that a Kafka that answers may take for the next record that it says it has.
FOLLOW_S = 30.0


class KafkaBroker:
    """`Broker` on Kafka. aiokafka runs on a loop and a thread of its own, since the methods are
    called in threads."""

    def __init__(self, settings: Settings, plan: Plan) -> None:
        self.plan = plan = plan.prefixed(settings.topic_prefix)
        self.journal_topic = journal_of(plan.app_id)
        self.view = View(plan.topics, {plan.dead_letters})
        self._settings = settings
        self._connection = connection(settings)
        self._admin: Any = None
        self._consumer: Any = None
        #: Asks for ends on a connection of its own: behind a fetch it would wait as long as that.
        self._asker: Any = None
        self._producer: Any = None
        #: Reads what `follow` is asked for.
        self._follower: Any = None
        self._stands: dict[TopicPartition, int] = {}
        self._next: dict[TopicPartition, int] = {}
        self._topics: dict[str, Standing] = {}
        self._reading = asyncio.Lock()
        self._one_at_a_time = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="penstock-kafka", daemon=True
        )
        self._thread.start()
        # What aiokafka complains of is raised; without a handler it would be printed as well.
        logging.getLogger("aiokafka").addHandler(logging.NullHandler())

    # -- writing

    def begin(self, runs: Sequence[Beginning]) -> list[Location | None]:
        return [*self.append([Row(run.topic, run.key, run.value) for run in runs])]

    def append(self, rows: Sequence[Row]) -> list[Location]:
        named = [row._replace(topic=self.plan.on_broker(row.topic)) for row in rows]
        return self._call(self._append([(row, None) for row in named]))

    def cancel(self, key: bytes, value: bytes) -> None:
        row = Row(self.plan.cancels, key, value)
        # Whoever does the work of one worker has not the run's own partition.
        partitions = [None, ONE_WORKER] if self.plan.one_worker else [None]
        self._call(self._append([(row, partition) for partition in partitions]))

    # -- reading

    def worker_running(self) -> bool:
        return self._call(self._has_member())

    def version(self) -> int:
        self._call(self._read(0))
        return self.view.count

    def find(self, topic: str, key: bytes | None, start: int = 0) -> list[Found]:
        if not self._next:
            self._call(self._catch_up())
        found = self.view.find(self.plan.on_broker(topic), key, start)
        if not self.plan.prefix:
            return found
        return [dataclasses.replace(one, topic=topic) for one in found]

    def extents(self, topics: Sequence[str]) -> dict[TP, Extent]:
        return self._call(self._extents(topics))

    def follow(self, spans: Spans, limit: int) -> tuple[list[Found], dict[TP, int]]:
        return self._call(self._follow(spans, limit))

    def kept(self, topic: str, partition: int, offsets: Sequence[int]) -> set[int]:
        tp = TopicPartition(self.plan.on_broker(topic), partition)
        first = self._call(self._firsts([tp]))[tp]
        return {one for one in offsets if one >= first}

    def unfinished(self, stage: str, topic: str) -> int:
        with self.snapshot():
            return sum(not self.is_done(stage, found) for found in self.find(topic, None))

    def is_done(self, stage: str, record: Found) -> bool:
        if self.plan.prefix:
            record = dataclasses.replace(record, topic=self.plan.on_broker(record.topic))
        return self.view.is_done(stage, record)

    def gone(self) -> Mapping[str, Sequence[str]]:
        return {self.plan.in_chain(topic): names for topic, names in self._gone().items()}

    def _gone(self) -> dict[str, tuple[str, ...]]:
        return self.plan.gone(self.view.known_readers())

    def unread(self) -> list[Unread]:
        found = []
        for topic, names in self._gone().items():
            records = self.view.find(topic, None)
            counts = {
                name: sum(not self.view.is_done(name, record) for record in records)
                for name in names
            }
            waiting = tuple(sorted(name for name, count in counts.items() if count))
            if waiting:
                found.append(Unread(self.plan.in_chain(topic), waiting, max(counts.values())))
        return found

    def let_go(self, records: Sequence[Found]) -> None:
        known = self.view.known_readers()
        offsets: dict[tuple[str, TP], list[int]] = {}
        for record in records:
            tp = TP(self.plan.on_broker(record.topic), record.partition)
            for name in known.get(tp.topic, ()):
                offsets.setdefault((name, tp), []).append(record.offset)
        rows: list[tuple[Row, int | None]] = []
        for (name, tp), finished in offsets.items():
            key = stretch_key(name, tp.topic, uuid.uuid4().hex[:8])
            stretch = msgspec.json.encode(Stretch(0, 0, [], sorted(finished)))
            rows.append((Row(self.journal_topic, key, stretch), tp.partition))
        self._call(self._append(rows))

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Inside, at least what was on the topics at the beginning is found."""
        with self._one_at_a_time:
            self._call(self._catch_up())
            yield

    # -- how it is

    def check(self) -> tuple[bool, str]:
        redact = self._settings.redact
        url = redact(self._settings.broker_url)
        # What its driver would log is said here, once.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        try:
            runs = "a worker is running" if self.worker_running() else "no worker is running"
            self._call(kafka_topics.require_group(self._connection, self.plan.app_id))
            wrong = self._call(
                kafka_topics.examine(
                    self._connection,
                    self.plan.topics,
                    self.journal_topic,
                    self._settings.max_event_bytes,
                )
            )
        except BrokerUnavailable as exc:
            return False, f"{redact(exc.message)}. Start it, or name another: PENSTOCK_BROKER"
        except PenstockError as exc:
            return False, redact(exc.message)
        if wrong:
            return False, f"{url}: {'; '.join(wrong)}"
        return True, f"{url} answers; {runs}"

    def close(self) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except KafkaError as exc:
            access = check_access(self._connection)
            asyncio.run_coroutine_threadsafe(access, self._loop).result()
            servers = ", ".join(self._connection["bootstrap_servers"])
            raise BrokerUnavailable(
                f"Kafka at {servers} does not answer as it should: {exc}"
            ) from exc

    # -- on aiokafka's loop

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
        """Read the journal first and apply it last, after all that was on the topics by then."""
        await self._started()
        there = await self._assigned()
        if not there:
            return
        await self._read_to([tp for tp in there if tp.topic == self.journal_topic])
        there = await self._assigned()  # the journal names topics that no stage reads any more
        read = [tp for tp in there if tp.topic != self.journal_topic]
        group = self.plan.app_id
        committed = await self._admin.list_consumer_group_offsets(group, partitions=read)
        marks = self.view.held_back()
        await self._read_to(read)
        self.view.take_over(
            marks,
            {TP(*tp): found.offset for tp, found in committed.items()},
            {name: topic.id for name, topic in self._topics.items()},
        )

    async def _extents(self, topics: Sequence[str]) -> dict[TP, Extent]:
        await self._started()
        names = {self.plan.on_broker(topic): topic for topic in topics}
        there = await standing(self._admin, names)
        found = {}
        for name, topic in names.items():
            if name not in there:
                continue
            tps = [TopicPartition(name, one) for one in range(there[name].partitions)]
            firsts = await self._asker.beginning_offsets(tps)
            ends = await self._asker.end_offsets(tps)
            for tp in tps:
                extent = Extent(there[name].id, firsts[tp], ends[tp])
                found[TP(topic, tp.partition)] = extent
        return found

    async def _firsts(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        await self._started()
        firsts: dict[TopicPartition, int] = await self._asker.beginning_offsets(tps)
        return firsts

    async def _follow(self, spans: Spans, limit: int) -> tuple[list[Found], dict[TP, int]]:
        named = {TopicPartition(self.plan.on_broker(tp.topic), tp.partition): tp for tp in spans}
        after = {tp: span.start for tp, span in spans.items()}
        consumer = await self._following({one: after[tp] for one, tp in named.items()})
        found: list[Found] = []
        size, deadline = 0, time.monotonic() + FOLLOW_S
        while open_ := [one for one, tp in named.items() if after[tp] < spans[tp].stop]:
            if len(found) >= limit or size > FOLLOW_BYTES:
                break
            if not found and time.monotonic() > deadline:
                raise BrokerUnavailable(
                    f"Kafka has sent nothing of '{open_[0].topic}' for {FOLLOW_S:g} s, and says"
                    " that there is more"
                )
            batches = await consumer.getmany(
                *open_, timeout_ms=FETCH_WAIT_MS, max_records=limit - len(found)
            )
            for one, records in batches.items():
                tp = named[one]
                for record in records:
                    if record.offset in spans[tp]:
                        value = b"" if record.value is None else record.value
                        size += len(value)
                        key = record.key or b""
                        found.append(Found(*tp, record.offset, record.timestamp, key, value))
            for one in open_:
                # Not the records' offsets: the last ones may be a transaction's marks.
                self._stands[one] = await consumer.position(one)
                after[named[one]] = min(self._stands[one], spans[named[one]].stop)
            # At its end Kafka would be asked for more all the time.
            consumer.pause(*(one for one in open_ if after[named[one]] == spans[named[one]].stop))
        return found, after

    async def _following(self, starts: Mapping[TopicPartition, int]) -> Any:
        """Return the consumer that follows, which goes on at `starts`."""
        consumer = self._follower
        if consumer is None:
            consumer = AIOKafkaConsumer(
                **self._connection,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                fetch_max_wait_ms=FETCH_WAIT_MS,
            )
            try:
                await consumer.start()
            except KafkaError:
                await consumer.stop()
                raise
            self._follower = consumer
        known = consumer.assignment()
        if not starts.keys() <= known:
            consumer.assign([*known | starts.keys()])
            self._stands.clear()
            consumer.pause(*known)
        for tp, start in starts.items():
            # A seek throws away what was fetched ahead.
            if self._stands.get(tp) != start:
                consumer.seek(tp, start)
        consumer.resume(*starts)
        return consumer

    async def _assigned(self) -> list[TopicPartition]:
        names = {*self.plan.topics, self.journal_topic, *self._gone()}
        self._topics = await standing(self._admin, names)
        there = [
            TopicPartition(name, partition)
            for name, topic in self._topics.items()
            for partition in range(topic.partitions)
        ]
        async with self._reading:
            if set(there) != self._consumer.assignment():
                self._consumer.assign(there)
                for tp in there:
                    self._consumer.seek(tp, self._next.setdefault(tp, 0))
        return there

    async def _read_to(self, tps: Sequence[TopicPartition]) -> None:
        """Read all that is on `tps` now."""
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
                    self._add(tp, record)
            # Not the records' offsets: the last ones before the end may be a transaction's marks.
            for tp in self._next:
                self._next[tp] = await self._consumer.position(tp)

    def _add(self, tp: TopicPartition, record: Any) -> None:
        key = record.key or b""
        if tp.topic == self.journal_topic:
            if isinstance(record.value, Unreadable):
                log.warning("%s. What it says is finished is shown as open", record.value.reason)
            self.view.add_mark(tp.partition, key, record.value)
            return
        value = b"" if record.value is None else record.value
        self.view.add(Found(tp.topic, tp.partition, record.offset, record.timestamp, key, value))

    async def _has_member(self) -> bool:
        await self._started()
        deadline = time.monotonic() + COORDINATOR_S
        while True:
            try:
                (answer,) = await self._admin.describe_consumer_groups([self.plan.app_id])
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

    async def _append(self, rows: Sequence[tuple[Row, int | None]]) -> list[Location]:
        await self._started()
        wanted = {row.topic for row, _ in rows}
        missing = wanted - (await standing(self._admin, wanted)).keys()
        beside: list[tuple[Row, int | None]] = []
        if missing:
            # No worker has been here yet; the runs wait for it.
            await kafka_topics.declare(
                self._connection,
                self.plan.topics,
                self.journal_topic,
                self._settings.partitions,
                self._settings.replication,
                self._settings.max_event_bytes,
            )
            beside = await self._readers_of(missing)
        producer = await self._producing()
        single = self.plan.one_worker
        records = [
            (row.topic, row.key, row.value, ONE_WORKER if row.topic in single else partition)
            for row, partition in [*rows, *beside]
        ]
        sent = await send(producer, records, self._connection)
        return [Location(one.partition, one.offset) for one in sent[: len(rows)]]

    async def _readers_of(self, topics: Collection[str]) -> list[tuple[Row, int | None]]:
        """Return the journal's records of who reads `topics`, which are new: what is sent before
        any worker is there waits for them by name."""
        journal = (await standing(self._admin, [self.journal_topic]))[self.journal_topic]
        return [
            (Row(self.journal_topic, reader_key(name, topic), b"1"), partition)
            for topic in topics
            for name in self.plan.readers.get(topic, ())
            for partition in range(journal.partitions)
        ]

    async def _producing(self) -> Any:
        if self._producer is None:
            producer = AIOKafkaProducer(
                **self._connection,
                acks="all",
                max_request_size=record_bytes(self._settings.max_event_bytes),
            )
            try:
                await producer.start()
            except KafkaError:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer

    async def _close(self) -> None:
        for one in (self._producer, self._consumer, self._asker, self._follower):
            if one is not None:
                await one.stop()
        if self._admin is not None:
            await self._admin.close()
