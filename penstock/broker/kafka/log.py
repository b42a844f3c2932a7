"""The journal's topic on Kafka: records are sent until they are taken, and read from the start."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from faust.exceptions import NotReady, ProducerSendError
from faust.types import RecordMetadata

from penstock.broker.partitioner import partition_of_key
from penstock.errors import EventTooLarge

log = logging.getLogger(__name__)

#: A record to send: topic, key, value, and the partition unless the key decides.
Send = tuple[str, bytes, bytes | None, int | None]
#: Seconds before a refused send is tried again: doubled each time, up to the last.
FIRST_PAUSE_S, LAST_PAUSE_S = 0.2, 5.0
#: Seconds that a send may take before no new work is taken.
SLOW_S = 2.0
#: Bytes of one fetch while a partition is read from its start.
FETCH_BYTES = 8 * 1024 * 1024


class Log:
    """Sends to any topic, and reads back the journal's. `room` is cleared while Kafka takes
    nothing: what is paid for then could only be held in memory."""

    def __init__(self, app: faust.App, topic: str, connection: dict[str, Any]) -> None:
        self.app = app
        self.topic = topic
        self.room = asyncio.Event()
        self.room.set()
        self._connection = connection
        #: When each unfinished send began, the oldest first.
        self._waiting: dict[int, float] = {}
        self._number = 0

    # -- sending

    async def send(self, records: Sequence[Send]) -> list[RecordMetadata]:
        """`records` are acknowledged, those of one partition in their order. What Kafka refuses is
        sent again, with all that came with it, until it is taken: each has an id or a key that its
        readers know. Raises `EventTooLarge` for what it never takes."""
        loop = asyncio.get_running_loop()
        self._number = number = self._number + 1
        self._waiting[number] = loop.time()
        pause_s = FIRST_PAUSE_S
        try:
            while True:
                try:
                    producer = self.app.producer
                    futures = [
                        await producer.send(topic, key, value, partition, None, None)
                        for topic, key, value, partition in records
                    ]
                    return [await future for future in futures]
                except (KafkaError, ProducerSendError, NotReady) as exc:
                    if isinstance(exc.__cause__ or exc, MessageSizeTooLargeError):
                        raise EventTooLarge(f"Kafka takes no record of this size: {exc}") from exc
                    log.debug("sending again in %.1f s: %s", pause_s, exc)
                await asyncio.sleep(pause_s)
                pause_s = min(LAST_PAUSE_S, pause_s * 2)
        finally:
            del self._waiting[number]
            if not self._waiting and not self.room.is_set():
                self.room.set()

    async def partition_of(self, topic: str, key: bytes) -> int:
        """The partition of `key`, chosen as Kafka's default partitioner does. Waits until the
        producer knows the topic."""
        producer: Any = self.app.producer
        while True:
            try:
                count = len(await producer._ensure_producer().partitions_for(topic))
            except (KafkaError, NotReady) as exc:
                log.debug("asking again how many partitions '%s' has: %s", topic, exc)
                await asyncio.sleep(FIRST_PAUSE_S)
            else:
                return partition_of_key(key, count)

    def look(self) -> bool:
        """Whether a send has been waiting for long; then there is no room until all are taken."""
        oldest = next(iter(self._waiting.values()), None)
        slow = oldest is not None and asyncio.get_running_loop().time() - oldest > SLOW_S
        if slow:
            self.room.clear()
        return slow

    # -- reading

    async def read(
        self,
        partitions: set[int],
        take: Callable[[int, bytes, bytes | None], None],
        topic: str = "",
    ) -> None:
        """`take` was called with partition, key and value of every record that stood in
        `partitions` of the journal, or of `topic`, when this began. Raises `KafkaError` when Kafka
        does not answer."""
        if not partitions:
            return
        consumer = AIOKafkaConsumer(
            **self._connection,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_wait_ms=100,
        )
        try:
            await consumer.start()
            name = topic or self.topic
            tps = [TopicPartition(name, partition) for partition in sorted(partitions)]
            consumer.assign(tps)
            ends = await consumer.end_offsets(tps)
            await consumer.seek_to_beginning(*tps)
            left = {tp for tp in tps if ends[tp] > 0}
            while left:
                for tp, records in (await consumer.getmany(*left, timeout_ms=200)).items():
                    for record in records:
                        if record.key is not None:
                            take(tp.partition, record.key, record.value)
                # Not the records' offsets: the last ones before the end may be compacted away.
                for tp in list(left):
                    if await consumer.position(tp) >= ends[tp]:
                        left.discard(tp)
                await asyncio.sleep(0)
        finally:
            with contextlib.suppress(Exception):
                await consumer.stop()
