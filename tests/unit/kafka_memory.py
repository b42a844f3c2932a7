"""A Kafka in memory: topics, a group's commits, and what a worker asks of the two.

It implements the interfaces behind which Penstock's Kafka code meets Kafka: `Log`, and the consumer
of `Handover` (`Seeking`). All that is Penstock's own is the real thing: journal, trackers, stages.

A process that was killed gets nothing out any more, and one that is suspended nothing until it goes
on. Everything else happens in the order of the loop, so a test is the same each time.
"""

import asyncio
import bisect
import contextvars
import dataclasses
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from aiokafka.errors import IllegalStateError
from aiokafka.partitioner import murmur2
from faust.types import TP, ConsumerMessage

from penstock import crash
from penstock.broker.kafka.delivery import Tracker
from penstock.broker.kafka.log import Take
from penstock.broker.kafka.sending import Send
from penstock.broker.kafka.standing import Standing
from penstock.errors import EventTooLarge
from penstock.record.events import Unreadable

#: Seconds between a consumer's commits.
COMMIT_S = 0.3


class Killed(BaseException):
    """Raised where a process is killed, so that what it was doing ends there."""


class Process:
    """A worker's process, as its broker, its model and the clock see it."""

    #: The process that is at work.
    current: contextvars.ContextVar["Process | None"] = contextvars.ContextVar(
        "current", default=None
    )

    def __init__(self) -> None:
        self.alive = True
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._context.run(self.current.set, self)
        self._runs = asyncio.Event()
        self._runs.set()
        self._suspended_at = 0.0

    @property
    def running(self) -> bool:
        return self.alive and self._runs.is_set()

    def begin(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """`work`, and all that it begins, is done by this process."""
        return asyncio.get_running_loop().create_task(work, context=self._context.copy())

    def kill(self) -> None:
        """Nothing leaves it from here on."""
        self.alive = False
        self._runs.clear()

    def suspend(self) -> None:
        """Nothing leaves it until `resume`, and its clock stands still: it does not look."""
        self._suspended_at = self.now()
        self._runs.clear()

    def resume(self) -> None:
        self._runs.set()

    async def runs(self) -> None:
        """It is its turn; of a killed one it never is again."""
        await self._runs.wait()

    def now(self) -> float:
        """Seconds on the clock, as it saw them last."""
        if not self._runs.is_set():
            return self._suspended_at
        return 1000.0 + self._loop.time()  # a thread of the lease looks, too


@dataclasses.dataclass(frozen=True)
class Record:
    """A record where it stands."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


class Kafka:
    """Topics of so many partitions, and one group that reads them."""

    def __init__(self, partitions: int = 1) -> None:
        self.partitions = partitions
        self.commits: dict[TP, int] = {}
        #: The consumers that are in the group, and how often that has changed.
        self.members: list[Consumer] = []
        self.generation = 0
        #: Set while Kafka takes what is sent.
        self.up = asyncio.Event()
        self.up.set()
        self._records: dict[TP, list[Record]] = {}
        self._ends: dict[TP, int] = {}
        #: The largest records that topics take.
        self.limits: dict[str, int] = {}
        #: The ids of topics that were made anew.
        self.ids: dict[str, str] = {}

    # -- topics

    def make_anew(self, topic: str) -> None:
        """The topic was deleted, and there is an empty one of its name."""
        self.ids[topic] = f"{self.ids.get(topic, '1')}1"
        for part in range(self.partitions):
            self._records.pop(TP(topic, part), None)
            self._ends.pop(TP(topic, part), None)

    def first(self, tp: TP) -> int:
        return next((record.offset for record in self.records_from(tp, 0)), self.end(tp))

    def append(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int | None = None
    ) -> Record:
        """The record stands on its topic, in the partition of its key unless one is given."""
        if partition is None:
            partition = self.partition_of(topic, key or b"")
        tp = TP(topic, partition)
        record = Record(topic, partition, self.end(tp), key, value)
        self._ends[tp] = record.offset + 1
        self._records.setdefault(tp, []).append(record)
        for member in self.members:
            member.deliver_soon()
        return record

    def partition_of(self, topic: str, key: bytes) -> int:
        return int(murmur2(key) & 0x7FFFFFFF) % self.partitions

    def records(self, topic: str, partition: int | None = None) -> list[Record]:
        """What stands on `topic`, partition by partition."""
        parts = range(self.partitions) if partition is None else [partition]
        return [record for part in parts for record in self._records.get(TP(topic, part), ())]

    def records_from(self, tp: TP, offset: int) -> list[Record]:
        records = self._records.get(tp, [])
        return records[bisect.bisect_left(records, offset, key=lambda one: one.offset) :]

    def end(self, tp: TP) -> int:
        return self._ends.get(tp, 0)

    def compact(self, topic: str) -> None:
        """Of each key the last record is left, and none of one that deletes."""
        for part in range(self.partitions):
            records = self.records(topic, part)
            last = {record.key: record for record in records}
            self._records[TP(topic, part)] = [
                one for one in records if last[one.key] is one and one.value is not None
            ]

    # -- the group

    async def rebalance(self, *members: "Consumer") -> None:
        """The partitions are shared out among `members`. Those that had some give them up first; of
        a process that does not run nobody hears, and it hears of nothing."""
        for member in self.members:
            if member in members and member.process.running:
                await member.process.begin(member.revoked())
        self.members = [member for member in members if member.process.alive]
        self.generation += 1
        for number, member in enumerate(self.members):
            parts = range(number, self.partitions, len(self.members))
            member.assign(set(parts))
        for member in self.members:
            await member.process.begin(member.assigned())


class MemoryLog:
    """`Log`, of one process."""

    def __init__(self, kafka: Kafka, process: Process) -> None:
        self.kafka = kafka
        self.process = process

    async def send(self, records: Sequence[Send]) -> list[Record]:
        await self.process.runs()
        await self.kafka.up.wait()
        for topic, _, value, _ in records:
            if len(value or b"") > self.kafka.limits.get(topic, 10**9):
                raise EventTooLarge(f"the topic '{topic}' takes {self.kafka.limits[topic]} bytes")
        sent = [self.kafka.append(*record) for record in records]
        await asyncio.sleep(0)  # for the acknowledgement
        await self.process.runs()
        return sent

    async def standing(self, topics: Iterable[str]) -> dict[str, Standing]:
        await self.process.runs()
        await self.kafka.up.wait()
        return {
            topic: Standing(self.kafka.ids.get(topic, "1"), self.kafka.partitions)
            for topic in topics
        }

    async def read(self, topic: str, partitions: set[int], take: Take) -> dict[int, str]:
        await self.process.runs()
        await self.kafka.up.wait()
        unreadable: dict[int, str] = {}
        for partition in sorted(partitions):
            for record in self.kafka.records(topic, partition):
                if isinstance(record.value, Unreadable):
                    unreadable.setdefault(partition, record.value.reason)
                elif record.key is not None:
                    take(partition, record.key, record.value)
        return unreadable


class Consumer:
    """`Seeking`: one process's consumer of `topics`, which `deliver`s to its stages.

    `give_up`, `load` and `on_seek` are the worker's part in a rebalance, called where Faust does.
    """

    def __init__(
        self,
        kafka: Kafka,
        process: Process,
        topics: Sequence[str],
        deliver: Callable[[ConsumerMessage], None],
    ) -> None:
        self.kafka = kafka
        self.process = process
        self.trackers: dict[TP, Tracker] = {}
        self.missed_generation = False
        self.shut: set[int] = set()
        #: What was delivered, each time, in its order.
        self.delivered: list[tuple[str, int, int]] = []
        #: Offsets that get lost between the consumer and the stages, once.
        self.dropped: set[tuple[str, int]] = set()
        self.give_up: Callable[[], Any]
        self.load: Callable[[], Any]
        self.on_seek: Callable[[], None]
        self._topics = topics
        self._deliver = deliver
        self._generation = 0
        self._partitions: set[int] = set()
        self._flows = False

    # -- what the journal asks

    @property
    def generation(self) -> int:
        return self._generation

    def assignment(self) -> set[TP]:
        return {TP(topic, part) for topic in self._topics for part in self._partitions}

    async def rewind(self, tps: set[TP]) -> bool:
        for tp in tps:
            self.trackers.pop(tp, None)
        self.kafka.commits |= {tp: self.kafka.first(tp) for tp in tps}
        return True

    async def highwaters(self, *tps: TP) -> Mapping[TP, int | None]:
        return {tp: self.kafka.end(tp) for tp in tps}

    def ack(self, message: Any) -> bool:
        tracker = self.trackers.get(message.tp)
        return tracker is not None and tracker.ack(message)

    async def is_member(self) -> bool:
        await self.process.runs()
        return self in self.kafka.members and self._generation == self.kafka.generation

    async def commit(self) -> None:
        """What is finished is committed; not for one that the group has gone on without."""
        if not await self.is_member():
            return
        offsets = {tp: tracker.committable() for tp, tracker in self.trackers.items()}
        new = {tp: offset for tp, offset in offsets.items() if offset is not None}
        self.kafka.commits |= new
        if new:
            crash.at("committed")
        for tp, offset in new.items():
            self.trackers[tp].commit(offset)

    async def perform_seek(self) -> None:
        await self.process.runs()
        self._flows = False
        if not await self.is_member():
            raise IllegalStateError("the group rebalances")
        self.trackers = {tp: Tracker(self.kafka.commits.get(tp)) for tp in self.assignment()}
        self.on_seek()

    def resume_flow(self) -> None:
        self._flows = True
        self.deliver_soon()

    # -- the group's part

    async def revoked(self) -> None:
        """Before a rebalance: the worker has given its partitions up."""
        await self.give_up()
        self._flows = False

    def assign(self, partitions: set[int]) -> None:
        self._flows = False
        self.missed_generation = bool(self._generation) and (
            self.kafka.generation != self._generation + 1
        )
        self._generation = self.kafka.generation
        self._partitions = partitions
        mine = self.assignment()
        self.trackers = {tp: one for tp, one in self.trackers.items() if tp in mine}

    async def assigned(self) -> None:
        """After it: the worker has loaded what it needs, and is delivered to from the commits."""
        await self.load()
        await self.perform_seek()
        self.resume_flow()

    async def commit_now_and_then(self) -> None:
        while self.process.alive:
            await asyncio.sleep(COMMIT_S)
            await self.commit()

    # -- delivery

    def deliver_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._deliver_all)

    def _deliver_all(self) -> None:
        if not (self._flows and self.process.running):
            return
        for tp, tracker in self.trackers.items():
            if tp.partition in self.shut:
                continue
            for record in self.kafka.records_from(tp, tracker.next or 0):
                self._deliver_one(tracker, record, tp)

    def _deliver_one(self, tracker: Tracker, record: Record, tp: TP) -> None:
        message = ConsumerMessage(
            *tp, record.offset, 0, 0, [], record.key, record.value, None, tp=tp,
            generation_id=self._generation,
        )  # fmt: skip
        assert tracker.deliver(message)
        self.delivered.append((*tp, record.offset))
        if (tp.topic, record.offset) in self.dropped:
            self.dropped.discard((tp.topic, record.offset))
        else:
            self._deliver(message)

    def undelivered(self, topic: str) -> bool:
        return any(
            (tracker.next or 0) < self.kafka.end(tp)
            for tp, tracker in self.trackers.items()
            if tp.topic == topic
        )
