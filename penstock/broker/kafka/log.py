"""The log: send to Kafka until it takes the records, and read a partition from its start."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from faust.exceptions import NotReady

from penstock.broker.kafka.sending import Send, send
from penstock.broker.kafka.standing import Asker, Standing
from penstock.broker.partitioner import partition_of_key
from penstock.record.events import Unreadable

log = logging.getLogger(__name__)


class Sent(Protocol):
    """The location of a record that was sent."""

    @property
    def partition(self) -> int: ...

    @property
    def offset(self) -> int: ...


#: Takes the partition, key and value of a record.
Take = Callable[[int, bytes, bytes | None], None]
#: A reason for `Room`: a send has been waiting for long.
SLOW = "slow"
#: Seconds before a refused send is tried again: doubled each time, up to the last.
FIRST_PAUSE_S, LAST_PAUSE_S = 0.2, 5.0
#: Seconds that a send may take before no new work is taken.
SLOW_S = 2.0
#: Bytes of one fetch while a partition is read from its start.
FETCH_BYTES = 8 * 1024 * 1024


class Log(Protocol):
    """All that journal, progress and suspects ask of Kafka."""

    async def send(self, records: Sequence[Send]) -> Sequence[Sent]:
        """Send `records` until Kafka has acknowledged all of them, those of one partition in their
        order. Raises `EventTooLarge` for what it never takes."""

    async def read(self, topic: str, partitions: set[int], take: Take) -> dict[int, str]:
        """Call `take` with partition, key and value of every record that was in `partitions` of
        `topic` when this began, in the order of each partition. Returns why partitions cannot be
        read to their ends. Raises `KafkaError` when Kafka does not answer."""

    async def standing(self, topics: Iterable[str]) -> dict[str, Standing]:
        """Return those of `topics` that exist. Raises `KafkaError`."""


class Room(asyncio.Event):
    """Set while new work may be taken: while there is no reason against it."""

    def __init__(self) -> None:
        super().__init__()
        self._reasons: set[str] = set()
        self.set()

    def shut(self, reason: str) -> None:
        """Clear it until `open` is called with the same reason."""
        self._reasons.add(reason)
        self.clear()

    def open(self, reason: str) -> None:
        self._reasons.discard(reason)
        if not self._reasons:
            self.set()


class KafkaLog:
    """`Log` through Faust's producer. There is no `room` while Kafka takes nothing: answers that
    are paid for then could only be held in memory."""

    def __init__(
        self, producer: Callable[[], Any], connection: Mapping[str, Any], room: Room
    ) -> None:
        self._producer = producer
        self._connection = connection
        self._asker = Asker(connection)
        self._room = room
        #: When each unfinished send began, the oldest first.
        self._waiting: dict[int, float] = {}
        self._number = 0

    # -- sending

    async def send(self, records: Sequence[Send]) -> Sequence[Sent]:
        """Send again whatever Kafka refuses, with all that was given with it. What arrives twice is
        recognised by its id or its key."""
        loop = asyncio.get_running_loop()
        self._number = number = self._number + 1
        self._waiting[number] = loop.time()
        pause_s = FIRST_PAUSE_S
        try:
            while True:
                try:
                    producer = self._producer()._ensure_producer()
                    return await send(producer, records, self._connection)
                except (KafkaError, NotReady) as exc:
                    log.debug("sending again in %.1f s: %s", pause_s, exc)
                await asyncio.sleep(pause_s)
                pause_s = min(LAST_PAUSE_S, pause_s * 2)
        finally:
            del self._waiting[number]
            if not self._waiting:
                self._room.open(SLOW)

    async def partition_of(self, topic: str, key: bytes) -> int:
        """Return the partition of `key`, chosen as Kafka's default partitioner does. Waits until
        the producer knows the topic."""
        while True:
            try:
                count = len(await self._producer()._ensure_producer().partitions_for(topic))
            except (KafkaError, NotReady) as exc:
                log.debug("asking again how many partitions '%s' has: %s", topic, exc)
                await asyncio.sleep(FIRST_PAUSE_S)
            else:
                return partition_of_key(key, count)

    def look(self) -> bool:
        """Return whether a send has been waiting for long, and leave no room then until Kafka has
        taken all."""
        oldest = next(iter(self._waiting.values()), None)
        slow = oldest is not None and asyncio.get_running_loop().time() - oldest > SLOW_S
        if slow:
            self._room.shut(SLOW)
        return slow

    # -- topics

    async def standing(self, topics: Iterable[str]) -> dict[str, Standing]:
        return await self._asker.standing(topics)

    async def see(self, topics: Mapping[str, int]) -> None:
        """See that `topics` have these numbers of partitions, so that keys go to the right ones."""
        try:
            client = self._producer()._ensure_producer().client
        except NotReady:
            return  # it asks when it starts
        for topic, count in topics.items():
            known = client.cluster.partitions_for_topic(topic)
            if known is not None and len(known) != count:
                await client.force_metadata_update()
                return

    async def close(self) -> None:
        await self._asker.close()

    # -- reading

    async def read(self, topic: str, partitions: set[int], take: Take) -> dict[int, str]:
        unreadable: dict[int, str] = {}
        if not partitions:
            return unreadable
        consumer = AIOKafkaConsumer(
            **self._connection,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_wait_ms=100,
        )
        try:
            await consumer.start()
            tps = [TopicPartition(topic, partition) for partition in sorted(partitions)]
            consumer.assign(tps)
            ends = await consumer.end_offsets(tps)
            await consumer.seek_to_beginning(*tps)
            left = {tp for tp in tps if ends[tp] > 0}
            while left:
                for tp, records in (await consumer.getmany(*left, timeout_ms=200)).items():
                    for record in records:
                        if isinstance(record.value, Unreadable):
                            unreadable.setdefault(tp.partition, record.value.reason)
                        elif record.key is not None:
                            take(tp.partition, record.key, record.value)
                # Not the records' offsets: the last ones before the end may be compacted away.
                for tp in list(left):
                    if await consumer.position(tp) >= ends[tp]:
                        left.discard(tp)
                await asyncio.sleep(0)
            return unreadable
        finally:
            with contextlib.suppress(Exception):
                await consumer.stop()
