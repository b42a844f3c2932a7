"""Suspects on Kafka: what was in flight at a crash.

The worker that takes a partition over may be on another machine, so what it has to know is in the
journal's topic. To write each event there before its step would cost every event a round trip, so
only those are that may have been in flight at a crash. A worker writes its name into the partitions
that it has, and deletes it when it gives them up. A worker that finds another's name knows that
that one died, and is careful with everything that is in the partition by then: it writes a mark for
the event before its step begins, and deletes it when the step has ended. A mark that is found is of
an event that was in flight at a crash. It holds the names of all workers that died with the event
in flight; the first of them left no mark, because nobody was careful yet, and stands for a guess.
"""

from collections.abc import Awaitable, Hashable, Iterable
from typing import Any, NamedTuple, Protocol

import msgspec
from faust.types import TP

from penstock.broker.kafka.records import MARK, Mark, Part
from penstock.broker.suspects import Search, Suspect, explained

_encode = msgspec.json.Encoder().encode


class Keeper(Protocol):
    """What the suspects ask of the journal."""

    @property
    def owner(self) -> str:
        """The name of this worker."""

    def part(self, partition: int) -> Part | None: ...

    def keep(self, partition: int, key: bytes, value: bytes) -> Awaitable[None]: ...

    def delete(self, keys: list[tuple[int, bytes]]) -> None: ...

    def committed(self, tp: TP) -> int | None: ...


class Careful(NamedTuple):
    """Below the offset `end`, an event may have been in flight when the worker `dead` died; None
    where only its mark can say that one was."""

    end: int
    dead: str | None


class Slot(NamedTuple):
    """An event in flight: its mark, the one before it, and the writing of it."""

    partition: int
    key: bytes
    before: Mark | None
    writing: Awaitable[None]


class KafkaSuspects:
    """`Suspects` for the partitions of this worker."""

    def __init__(self, journal: Keeper) -> None:
        self.journal = journal
        self.search = Search()
        self._careful: dict[TP, Careful] = {}
        self._slots: dict[int, Slot] = {}
        self._number = 0

    def be_careful(self, ends: dict[TP, Careful]) -> None:
        """Mark events below these offsets from here on."""
        self._careful |= ends

    def begin(self, tps: Iterable[TP]) -> None:
        """Forget other partitions, and marks below the group's commits; look at the others anew.
        Called after each seek."""
        ours = set(tps)
        self._careful = {tp: careful for tp, careful in self._careful.items() if tp in ours}
        found: dict[Hashable, Suspect] = {}
        for partition in {tp.partition for tp in ours}:
            part = self.journal.part(partition)
            if part is None:
                continue
            for key, mark in list(part.marks.items()):
                _, topic, offset = key[len(MARK) :].decode().split("|")
                if int(offset) < (self.journal.committed(TP(topic, partition)) or 0):
                    self._write(partition, key, None)
                else:
                    found[partition, key] = self._suspect(mark)
        for (partition, key), less in explained(found).items():
            found[partition, key] = less
            self._write(partition, key, Mark(less.deaths, less.alone) if less.deaths else None)
        self.search.load(found)

    def _suspect(self, mark: Mark) -> Suspect:
        if isinstance(mark.workers, int):
            return Suspect(("unnamed",) * (mark.workers + 1), mark.alone)
        # In flight here, perhaps: this worker lives.
        return Suspect(tuple(one for one in mark.workers if one != self.journal.owner), mark.alone)

    def find(self, stage: str, message: Any) -> Hashable | None:
        if self.search.is_over:
            return None
        key = (message.partition, _key(stage, message))
        return key if self.search.find(key) else None

    def deaths(self, stage: str, message: Any) -> int:
        return self.search.deaths((message.partition, _key(stage, message)))

    def enter(self, stage: str, message: Any, alone: bool) -> int:
        careful = self._careful.get(message.tp)
        if careful is None:
            return 0
        if message.offset >= careful.end:
            if (self.journal.committed(message.tp) or 0) >= careful.end:
                del self._careful[message.tp]
            return 0
        key, part = _key(stage, message), self.journal.part(message.partition)
        before = None if part is None else part.marks.get(key)
        if before is not None:
            known = self._suspect(before)
        elif careful.dead is not None:
            known = Suspect((careful.dead,))
        else:
            return 0
        mark = Mark((*known.deaths, self.journal.owner), known.alone + alone)
        self._number += 1
        writing = self._write(message.partition, key, mark)
        assert writing is not None
        self._slots[self._number] = Slot(message.partition, key, before, writing)
        return self._number

    def written(self, slot: int) -> Awaitable[None] | None:
        return self._slots[slot].writing if slot else None

    def leave(self, slot: int, ended: bool) -> None:
        if slot:
            one = self._slots.pop(slot)
            self._write(one.partition, one.key, None if ended else one.before)

    def _write(self, partition: int, key: bytes, mark: Mark | None) -> Awaitable[None] | None:
        """The mark stands from here on, durably when what this returns is done; without one it is
        gone, when that may be."""
        part = self.journal.part(partition)
        if mark is None:
            if part is not None:
                part.marks.pop(key, None)
            self.journal.delete([(partition, key)])
            return None
        if part is not None:
            part.marks[key] = mark
        return self.journal.keep(partition, key, _encode(mark))


def _key(stage: str, message: Any) -> bytes:
    return MARK + f"{stage}|{message.tp.topic}|{message.offset}".encode()
