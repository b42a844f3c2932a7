"""Suspects on Kafka: what was in flight at a crash.

The worker that takes a partition over may be on another machine, so what it has to know is in the
journal's topic. To write each event there before its step would cost every event a round trip, so
only those are that may have been in flight at a crash. A worker writes its name into the partitions
that it has, and deletes it when it gives them up. A worker that finds another's name knows that
that one died, and is careful with everything that is in the partition by then: it writes a mark for
the event before its step begins, and deletes it when the step has ended. A mark that is found is of
an event that was in flight at a crash.
"""

from collections.abc import Awaitable, Iterable
from typing import Any, Protocol

import msgspec
from faust.types import TP

from penstock.broker.kafka.records import MARK, Mark, Part
from penstock.broker.suspects import DEAD_AFTER, Concurrency, KilledWorker

_encode = msgspec.json.Encoder().encode


class Keeper(Protocol):
    """What the suspects ask of the journal."""

    def part(self, partition: int) -> Part | None: ...

    def keep(self, partition: int, key: bytes, value: bytes) -> Awaitable[None]: ...

    def delete(self, keys: list[tuple[int, bytes]]) -> None: ...

    def committed(self, tp: TP) -> int | None: ...


class KafkaSuspects:
    """`Suspects` for the partitions of this worker."""

    def __init__(self, journal: Keeper) -> None:
        self.journal = journal
        self.concurrency = Concurrency()
        #: Below these offsets an event may have been in flight at a crash.
        self._careful: dict[TP, int] = {}
        self._slots: dict[int, tuple[int, bytes, Awaitable[None]]] = {}
        self._number = 0

    def be_careful(self, ends: dict[TP, int]) -> None:
        """Mark events below these offsets from here on: a worker that had the partitions died."""
        self._careful |= ends

    def begin(self, tps: Iterable[TP]) -> None:
        """Forget other partitions, and marks below the group's commits. Called after each seek."""
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
