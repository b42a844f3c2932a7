"""The journal on Kafka, over Faust's own consumer: experimental, and in its simplest form.

A step's end is a row of sends, each acknowledged before the next: its journal entries, its outputs,
the mark that it is finished. Then its message is acked. Killed between two of them, the event comes
again: its calls are recalled, its outputs are sent again with the same ids, and whoever reads them
knows the id by its own mark.

Entries and marks are in the changelog topic of one Faust table, in their event's partition, so
whoever is given the partition recovers them with it.
"""

import asyncio
import collections
import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import faust
import msgspec
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from faust.exceptions import ProducerSendError
from faust.tables.recovery import Recovery
from faust.types import TP, RecordMetadata

from app.errors import EventTooLarge
from app.journal import Output, Places
from app.settings import Settings

log = logging.getLogger(__name__)

#: Seconds for which a finished event is known by its id.
DEDUPE_S = 3600.0
#: Seconds before a refused send is tried again: doubled each time, up to the last.
FIRST_PAUSE_S, LAST_PAUSE_S = 0.2, 10.0
#: What a key in the changelog begins with: a recorded answer, a finished event, a run that began.
CALL, DONE, BEGUN = b"call:", b"done:", b"begun:"

#: A record to send: topic, key, value, and the partition unless the key decides.
Send = tuple[str, bytes, bytes | None, int | None]


class _Id(msgspec.Struct):
    id: str


_id = msgspec.json.Decoder(_Id)
#: A mark's value: when it was set, in seconds since 1970 UTC or None for ever, and its partition.
_Mark = tuple[float | None, int]
_mark = msgspec.json.Decoder(_Mark)


def faust_settings(settings: Settings) -> dict[str, Any]:
    """What Faust has to be told of Kafka; its defaults are not for this work."""
    return {
        # Seconds that a killed worker's partitions stand still.
        "broker_session_timeout": 10.0,
        "broker_heartbeat_interval": 3.0,
        "consumer_group_instance_id": settings.worker_id or None,
        # Bytes: with Faust's 16 KB, 2,000 events in flight get 1,600 sends a second, not 17,800.
        "producer_max_batch_size": 256 * 1024,
        # A dead letter holds its event as text in JSON, which can double it.
        "producer_max_request_size": 2 * settings.max_event_bytes + 100_000,
    }


def done_key(stage: str, topic: str, partition: int, offset: int, value: bytes | None) -> bytes:
    """How the changelog names what `stage` has finished: the event's id, or for a record that is
    no event, its place."""
    try:
        id_ = _id.decode(value or b"").id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        id_ = f"{topic}-{partition}-{offset}"
    return DONE + f"{stage}/{id_}".encode()


def changelog_of(app_id: str) -> str:
    return f"{app_id}-journal-changelog"


class CarefulRecovery(Recovery):
    """Faust's recovery of tables, which does not deliver while it seeks.

    Faust lets the partitions go while the flow runs, seeks to the committed offsets after that, and
    empties the streams' buffers last: what was delivered in between was gone until a restart. It
    resumes the flow itself when it has done all that.
    """

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        self.app.consumer.stop_flow()
        await super().on_recovery_completed(generation_id)


class KafkaJournal:
    """The verbs on Kafka. Loads itself after every recovery of its table."""

    def __init__(self, app: faust.App, partitions: int) -> None:
        self.app = app
        #: Always set: a send that waits for Kafka keeps its step in flight, and those are limited.
        self.room = asyncio.Event()
        self.room.set()
        self._log = changelog_of(app.conf.id)
        self._table = app.Table("journal", key_type=bytes, value_type=bytes, partitions=partitions)
        self._calls: dict[str, set[bytes]] = {}
        self._recording: dict[str, list[asyncio.Future[None]]] = {}
        self._marks: collections.deque[tuple[float, bytes, int]] = collections.deque()
        self._given: dict[tuple[str, TP], dict[int, Any]] = {}
        # asyncio keeps only weak references to tasks.
        self._tasks: set[asyncio.Future[Any]] = set()
        app.on_rebalance_complete.connect(self._load)

    @property
    def _data(self) -> Any:
        return self._table.data

    async def _load(self, *_: Any, **__: Any) -> None:
        """The entries and marks are those of the changelog, and nothing is in delivery."""
        self._given.clear()
        self._calls.clear()
        marks = []
        for key, value in self._data.items():
            if key.startswith(CALL):
                self._calls.setdefault(_step_of(key), set()).add(key)
            else:
                set_at, partition = _mark.decode(value)
                if set_at is not None:
                    marks.append((set_at, key, partition))
        self._marks = collections.deque(sorted(marks))

    # -- what was delivered

    def is_done(self, stage: str, message: Any) -> bool:
        # Every message that a stage is given comes by here first, in the order of delivery.
        self._given.setdefault((stage, message.tp), {}).setdefault(message.offset, None)
        return self._done_key(stage, message) in self._data

    def again(self, stage: str, message: Any) -> None:
        self._ack(stage, message)

    def _ack(self, stage: str, message: Any) -> None:
        """`message` is acked as soon as those before it are: when a later one is acked, Faust's
        consumer commits past one in flight, which a crash would then lose."""
        given = self._given.get((stage, message.tp), {})
        if message.offset not in given:
            return  # of before a rebalance: it is delivered again, and known by its mark
        given[message.offset] = message
        while given:
            first = next(iter(given))
            if given[first] is None:
                return
            given.pop(first).ack(self.app.consumer)

    # -- the verbs

    def recall(self, key: str) -> bytes | None:
        return self._data.get(CALL + key.encode())  # type: ignore[no-any-return]

    def record(self, key: str, message: Any, answer: bytes) -> asyncio.Future[None]:
        name = CALL + key.encode()
        step = _step_of(name)
        self._data[name] = answer
        self._calls.setdefault(step, set()).add(name)
        future = asyncio.ensure_future(self._keep(name, answer, message.partition))
        self._recording.setdefault(step, []).append(future)
        return future

    async def finish(
        self,
        stage: str,
        message: Any,
        outputs: Sequence[Output],
        step: str | None,
        then: Callable[[Places], None],
    ) -> None:
        key = self._done_key(stage, message)
        # An answer that Kafka does not take is not recorded; the step's end makes up for that.
        await asyncio.gather(*self._recording.pop(_step_of(key + b"/"), ()), return_exceptions=True)
        sent = await self._send([(*output, None) for output in outputs])
        await self._set_mark(key, time.time(), message.partition)
        then([(one.partition, one.offset) for one in sent])
        self._ack(stage, message)
        if step is not None:
            self._drop(self._calls.pop(step, ()), message.partition)
        while self._marks and self._marks[0][0] < time.time() - DEDUPE_S:
            _, old, partition = self._marks.popleft()
            self._drop([old], partition)

    async def begin(
        self, topic: str, id_: str, key: bytes, value: bytes, kept: bool
    ) -> RecordMetadata | None:
        """A run has begun with the event `id_` on `topic`; None when it had before. A `kept` id is
        known for ever."""
        tables: Any = self.app.tables
        await tables.recovery.completed.wait()
        mark = BEGUN + id_.encode()
        if mark in self._data:
            return None
        (sent,) = await self._send([(topic, key, value, None)])
        await self._set_mark(mark, None if kept else time.time(), sent.partition)
        return sent

    # -- the changelog

    def _done_key(self, stage: str, message: Any) -> bytes:
        return done_key(stage, message.topic, message.partition, message.offset, message.value)

    async def _keep(self, key: bytes, value: bytes, partition: int) -> None:
        await self._send([(self._log, key, value, partition)])

    async def _set_mark(self, key: bytes, set_at: float | None, partition: int) -> None:
        value = msgspec.json.encode((set_at, partition))
        await self._keep(key, value, partition)
        self._data[key] = value
        if set_at is not None:
            self._marks.append((set_at, key, partition))

    def _drop(self, keys: Collection[bytes], partition: int) -> None:
        """`keys` are gone, here now and on the changelog soon; nobody waits for that."""
        for key in keys:
            self._data.pop(key, None)
        if keys:
            gone = [(self._log, key, None, partition) for key in keys]
            task = asyncio.ensure_future(self._send(gone))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, records: Sequence[Send]) -> list[RecordMetadata]:
        """`records` are acknowledged, in their order. What Kafka refuses is sent again, with all
        that came with it, until it is taken: each has an id or a key that its readers know."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                sent = [
                    await self.app.producer.send(topic, key, value, partition, None, None)
                    for topic, key, value, partition in records
                ]
                return [await one for one in sent]
            except (KafkaError, ProducerSendError) as exc:
                if isinstance(exc.__cause__ or exc, MessageSizeTooLargeError):
                    raise EventTooLarge(f"Kafka takes no record of this size: {exc}") from exc
                if pause_s == FIRST_PAUSE_S:
                    log.warning("Kafka refuses records (%s). Sending again until it does not", exc)
            await asyncio.sleep(pause_s)
            pause_s = min(LAST_PAUSE_S, pause_s * 2)


def _step_of(key: bytes) -> str:
    """The step of a key in the changelog: `STAGE/EVENT` of `call:STAGE/EVENT/CALL`."""
    return key[key.index(b":") + 1 : key.rindex(b"/")].decode()
