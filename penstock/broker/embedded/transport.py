"""Faust's transport for `sqlite://`: topics, partitions and offsets in one durable file.

A file has one worker. Other processes may append and read at the same time. Acks are positions in
the file, written in the same transaction as the outputs of the step.
"""

import asyncio
import pathlib
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from faust.assignor.client_assignment import ClientAssignment
from faust.transport import base
from faust.transport.consumer import Consumer as FaustConsumer
from faust.transport.producer import Producer as FaustProducer
from faust.transport.producer import ProducerBuffer
from faust.types import TP, ConsumerMessage, RecordMetadata

from penstock.broker.acks import Acks
from penstock.broker.embedded.store import Record, Store
from penstock.errors import DatabaseUnusable
from penstock.signals import Signals

#: Records read at once from one partition.
READ_AHEAD = 500
#: Seconds between looks for what other processes appended: 50 looks a second cost 1 % of a core.
LOOK_S = 0.02
#: Seconds between checkpoints of the write-ahead log, off the writer's thread.
CHECKPOINT_S = 1.0

_headers = msgspec.msgpack.Encoder().encode
_read_headers = msgspec.msgpack.Decoder(list[tuple[str, bytes]]).decode


class Buffer(ProducerBuffer):
    """Faust's buffer, without the look at a setting whenever its size is asked for, which is twice
    a message."""

    @property
    def size(self) -> int:
        return self.pending.qsize()


class Producer(FaustProducer):
    """Appends records; each is durable when its future is done."""

    transport: "Transport"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.buffer = Buffer(loop=self.loop, beacon=self.beacon)
        self.buffer.app = self.app

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: Any,
        *,
        transactional_id: str | None = None,
    ) -> Awaitable[RecordMetadata]:
        """Append a record. What is returned is done when the record is durable."""
        store = self.transport.store
        self.transport.ensure(topic)
        tp = TP(topic, store.partition_of(topic, key) if partition is None else partition)
        ts = int((timestamp or time.time()) * 1000)
        future: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()

        def durable(offset: int) -> None:
            if not future.done():
                future.set_result(
                    RecordMetadata(
                        topic=topic,
                        partition=tp.partition,
                        topic_partition=tp,
                        offset=offset,
                        timestamp=ts / 1000,
                        timestamp_type=0,
                    )
                )

        pairs = list(headers.items() if isinstance(headers, Mapping) else headers or ())
        store.append(tp, ts, key, value, _headers(pairs) if pairs else None, durable)
        if not store.running:
            store.commit_now()
        return future

    async def send_and_wait(self, *args: Any, **options: Any) -> RecordMetadata:
        return await (await self.send(*args, **options))

    async def create_topic(
        self, topic: str, partitions: int, replication: int, **options: Any
    ) -> None:
        self.transport.store.create(topic, partitions)

    async def flush(self) -> None:
        await self.buffer.flush()

    def key_partition(self, topic: str, key: bytes) -> TP:
        self.transport.ensure(topic)
        return TP(topic, self.transport.store.partition_of(topic, key))

    def supports_headers(self) -> bool:
        return True


class Consumer(FaustConsumer):
    """Delivers every record that one of its topic's readers has not finished.

    A topic's readers are the stages that read it. A topic that no stage reads has one reader, "",
    which finishes a record when Faust acks its message.
    """

    transport: "Transport"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._assigned: set[TP] = set()
        self._next: dict[TP, int] = {}
        self._wake = asyncio.Event()
        self._acked: Any = Acks(self.finish)
        self._acked_index: Any = self._acked
        self.store = self.transport.store
        self.store.wake = self._wake.set

    def readers(self, topic: str) -> tuple[str, ...]:
        return self.transport.readers.get(topic, ("",))

    # -- what the app asks of a consumer

    async def create_topic(
        self, topic: str, partitions: int, replication: int, **options: Any
    ) -> None:
        self.store.create(topic, partitions)

    async def subscribe(self, topics: Iterable[str]) -> None:
        wanted = set()
        for topic in {*topics, *self.app.tables.changelog_topics}:
            self.transport.ensure(topic)
            wanted |= {TP(topic, part) for part in range(self.store.partitions(topic) or 0)}
        self.store.start(asyncio.get_running_loop())
        self.app.on_rebalance_start()
        await self.on_partitions_revoked(self._assigned - wanted)
        self._assigned = wanted
        # Table recovery asks the assignor which partitions are ours: all of them are.
        actives: dict[str, list[int]] = {}
        for tp in sorted(wanted):
            actives.setdefault(tp.topic, []).append(tp.partition)
        assignor: Any = self.app.assignor
        assignor._assignment = ClientAssignment(actives=actives, standbys={})
        assignor._active_tps = assignor._assignment.active_tps
        assignor._standby_tps = set()
        await self.seek_to_committed()
        # In a future of its own: the conductor lets no assignment through before this method has
        # returned, so to await the assignment here would be a deadlock.
        self.add_future(self.on_partitions_assigned(set(wanted), self.app.consumer_generation_id))

    def assignment(self) -> set[TP]:
        return set(self._assigned)

    def ack(self, message: Any) -> bool:
        """Finish a record for the reader "". Called by Faust for agents that are not stages."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        if self.app.topics.acks_enabled_for(message.topic):
            self.finish(message.tp, message.offset)
        if self._waiting_for_ack is not None and not self._waiting_for_ack.done():
            self._waiting_for_ack.set_result(None)
        return True

    def finish(self, tp: TP, offset: int) -> None:
        if self.readers(tp.topic) == ("",):
            self.store.finish("", tp, offset)

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        return False  # positions ride with the steps

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        return True

    def undelivered(self, topic: str) -> bool:
        """Return whether `topic` has records that were not delivered since the last seek."""
        return any(
            offset < self.store.end(tp) for tp, offset in self._next.items() if tp.topic == topic
        )

    # -- where to read

    async def perform_seek(self) -> None:
        # After a table's recovery Faust resumes the partitions while the flow runs, and empties the
        # streams' buffers only then: what was delivered in between would wait for a restart.
        # Faust resumes the flow by itself after that.
        self.stop_flow()
        await self.seek_to_committed()

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Deliver every partition again from the first record that some reader has not finished.

        What is delivered twice by that joins its first delivery; what is finished is skipped.
        """
        for tp in self._assigned:
            self._next[tp] = self._low(tp)
        self.transport.on_seek()
        self._wake.set()
        return dict(self._next)

    def _low(self, tp: TP) -> int:
        return min(self.store.position(reader, tp).low for reader in self.readers(tp.topic))

    async def _seek(self, tp: TP, offset: int) -> None:
        self._next[tp] = offset
        self._wake.set()

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        self._next.update(partitions)
        self._wake.set()

    async def seek_to_beginning(self, *partitions: TP) -> None:
        for tp in partitions:
            self._next[tp] = 0

    async def position(self, tp: TP) -> int | None:
        return self._next.get(tp, 0)

    def highwater(self, tp: TP) -> int:
        return self.store.end(tp)

    async def highwaters(self, *partitions: TP) -> dict[TP, int]:
        return {tp: self.store.end(tp) for tp in partitions}

    async def earliest_offsets(self, *partitions: TP) -> dict[TP, int]:
        return dict.fromkeys(partitions, 0)

    def topic_partitions(self, topic: str) -> int | None:
        return self.store.partitions(topic)

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int:
        return self.store.partition_of(topic, key) if partition is None else partition

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    def on_buffer_drop(self, tp: TP) -> None:
        super().on_buffer_drop(tp)
        self._wake.set()

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        super().resume_partitions(tps)
        self._wake.set()

    # -- delivery

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        return {}  # Faust's own drain is not used, see below

    def _to_message(self, tp: TP, record: Record) -> ConsumerMessage:
        offset, ts, key, value, headers = record
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            offset,
            ts / 1000,
            0,
            _read_headers(headers) if headers else [],
            key,
            value,
            None,
            len(key or b""),
            len(value or b""),
            tp,
            # Messages of another generation than the consumer's are dropped in silence.
            generation_id=self.app.consumer_generation_id,
        )

    async def _drain_messages(self, fetcher: Any) -> None:
        """Deliver until the fetcher is stopped.

        Faust's own loop makes two tasks a message (5,310 steps a second against 9,350), drops the
        rest of a batch when the flow stops, and does not know a topic's readers.
        """
        try:
            await self._deliver_all(fetcher)
        except sqlite3.DatabaseError as exc:
            if not await asyncio.to_thread(self.store.look_for_another):
                raise DatabaseUnusable(self.store.explain(exc)) from exc
            # Whoever watches the file ends the worker.
            await self.wait_first(self._stopped.wait(), fetcher._stopped.wait())

    async def _deliver_all(self, fetcher: Any) -> None:
        loop = asyncio.get_running_loop()
        seen = -1
        look_at = checkpoint_at = 0.0
        self._wake.set()
        while not (self._stopped.is_set() or fetcher._stopped.is_set()):
            if not self.flow_active:
                await self.wait_first(self.can_resume_flow.wait(), timeout=1.0)
                continue
            self._wake.clear()
            for tp in list(self._get_active_partitions()):
                if self._next[tp] < self.store.end(tp):
                    await self._deliver(tp)
                    self._wake.set()
            if self._wake.is_set():
                await asyncio.sleep(0)
            else:
                timer = loop.call_later(LOOK_S, self._wake.set)
                await self._wake.wait()
                timer.cancel()
            now = loop.time()
            if now >= look_at:
                look_at = now + LOOK_S
                version = self.store.version()
                if version != seen:
                    seen = version
                    self.store.refresh()
            if now >= checkpoint_at:
                checkpoint_at = now + CHECKPOINT_S
                loop.run_in_executor(None, self._checkpoint)

    async def _deliver(self, tp: TP) -> None:
        """Deliver up to `READ_AHEAD` records of one partition that some reader has not finished."""
        positions = [self.store.position(reader, tp) for reader in self.readers(tp.topic)]
        expected = self._next[tp]
        for count, record in enumerate(self.store.read(tp, expected, READ_AHEAD)):
            if not self.flow_active or tp not in self._active_partitions:
                return  # stopped, or a stage's buffer is full: the rest is read again later
            if self._next[tp] != expected:
                return  # there was a seek meanwhile
            offset = record[0]
            expected = self._next[tp] = offset + 1
            for position in positions:
                if not position.is_done(offset):
                    await self.callback(self._to_message(tp, record))
                    break
            if count % 50 == 49:
                await asyncio.sleep(0)

    def _checkpoint(self) -> None:
        try:
            self.store.checkpoint()
        except sqlite3.Error as exc:
            # The log grows meanwhile; a full disk is reported by the writer.
            self.log.debug("checkpoint put off: %s", exc)

    async def on_stop(self) -> None:
        await super().on_stop()
        await self.store.flush()


class Transport(base.Transport):
    """`sqlite:///FILE`: the embedded broker.

    `readers` are the stages that read each topic; `on_seek` is called when delivery begins again
    with what is not finished. Any Faust app can use it, with neither.
    """

    Consumer = Consumer
    Producer = Producer
    default_port = 0
    driver_version = "penstock embedded (SQLite " + sqlite3.sqlite_version + ")"

    def __init__(
        self,
        *args: Any,
        readers: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
        on_seek: Callable[[], None] = lambda: None,
        signals: Signals | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.readers = readers
        self.on_seek = on_seek
        self._signals = signals or Signals()
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        """The file, opened when it is first needed."""
        if self._store is None:
            self._store = Store(pathlib.Path(self.url[0].path), self._signals)
        return self._store

    def ensure(self, topic: str) -> None:
        """Make `topic` with the app's number of partitions, unless it exists."""
        if self.store.partitions(topic) is None:
            self.store.create(topic, self.app.conf.topic_partitions)
