"""What was in flight at a crash, on Kafka.

The worker that takes a partition over may be on another machine, so what it has to know stands in
the journal. To write down each event before its step would cost every event a trip to Kafka, so
only what may have been present at a crash is: a worker signs the partitions that it has, and takes
its name away when it gives them up. Who finds the name of another knows that it died, and is
careful with all that stands in the partition by then: an event is marked before its step begins,
and the mark is gone when the step has ended. A mark that is found was in flight at a crash.
"""

from collections.abc import Awaitable, Iterable
from typing import Any, Protocol

import msgspec
from faust.types import TP

from penstock.broker.kafka.records import MARK, Mark, Part
from penstock.broker.suspects import DEAD_AFTER, Crew, KilledWorker

_encode = msgspec.json.Encoder().encode


class Keeper(Protocol):
    """What is asked of the journal."""

    def part(self, partition: int) -> Part | None: ...

    def keep(self, partition: int, key: bytes, value: bytes) -> Awaitable[None]: ...

    def delete(self, keys: list[tuple[int, bytes]]) -> None: ...

    def committed(self, tp: TP) -> int | None: ...


class KafkaSuspects:
    """What was present at the crashes of earlier workers, in this worker's partitions."""

    def __init__(self, journal: Keeper) -> None:
        self.journal = journal
        self.crew = Crew()
        #: Below these offsets an event may have been in flight at a crash.
        self._careful: dict[TP, int] = {}
        self._slots: dict[int, tuple[int, bytes, Awaitable[None]]] = {}
        self._number = 0

    def be_careful(self, ends: dict[TP, int]) -> None:
        """A worker died that had these partitions; what stands in them now ends before `ends`."""
        self._careful |= ends

    def begin(self, tps: Iterable[TP]) -> None:
        """These partitions are ours, and delivered from the commit on."""
        ours = set(tps)
        self._careful = {tp: end for tp, end in self._careful.items() if tp in ours}
        for partition in {tp.partition for tp in ours}:
            part = self.journal.part(partition)
            if part is None:
                continue
            for key in list(part.marks):
                _, topic, offset = key[len(MARK) :].decode().split("|")
                if int(offset) < (self.journal.committed(TP(topic, partition)) or 0):
                    del part.marks[key]
                    self.journal.delete([(partition, key)])

    def check(self, stage: str, message: Any) -> bool:
        if not self._careful:
            return False
        mark = self._mark(stage, message)
        if mark.alone >= DEAD_AFTER:
            raise KilledWorker(mark.alone)
        # Its first crash left no mark: nobody was careful yet.
        return mark.together > 0 or mark.alone > 0

    def enter(self, stage: str, message: Any, alone: bool) -> int:
        end = self._careful.get(message.tp)
        if end is None:
            return 0
        if message.offset >= end:
            if (self.journal.committed(message.tp) or 0) >= end:
                del self._careful[message.tp]
            return 0
        mark = self._mark(stage, message)
        new = Mark(mark.together + (not alone), mark.alone + alone)
        key = _key(stage, message)
        part = self.journal.part(message.partition)
        if part is not None:
            part.marks[key] = new
        self._number += 1
        writing = self.journal.keep(message.partition, key, _encode(new))
        self._slots[self._number] = (message.partition, key, writing)
        return self._number

    def written(self, slot: int) -> Awaitable[None] | None:
        return self._slots[slot][2] if slot else None

    def leave(self, slot: int) -> None:
        if not slot:
            return
        partition, key, _ = self._slots.pop(slot)
        part = self.journal.part(partition)
        if part is not None:
            part.marks.pop(key, None)
        self.journal.delete([(partition, key)])

    def _mark(self, stage: str, message: Any) -> Mark:
        part = self.journal.part(message.partition)
        return NO_MARK if part is None else part.marks.get(_key(stage, message), NO_MARK)


NO_MARK = Mark(0, 0)


def _key(stage: str, message: Any) -> bytes:
    return MARK + f"{stage}|{message.topic}|{message.offset}".encode()
