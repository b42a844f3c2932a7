"""Suspects on the embedded broker: what was in flight at a crash.

That is kept in a small file that is mapped into memory. It is never synced: it has to survive the
death of the process, not of the machine, and so it costs less than a microsecond an event. What a
worker finds in it when it starts was in flight when the last worker died.
"""

import json
import mmap
import os
import pathlib
import sqlite3
import struct
import zlib
from collections.abc import Hashable
from typing import Any

from penstock import crash, private
from penstock.broker.embedded.file import SHIFT
from penstock.broker.embedded.store import Store
from penstock.broker.suspects import Search, Suspect, explained

#: The stage (a CRC-32 of its name) and the record's id; a free slot is all zeros.
SLOT = struct.Struct("<QQ")
GROW = 4096
#: The slot of an event that found no room in the file.
NOWHERE = -1


class InFlight:
    """A slot for each event in flight, in a file that outlives the process."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        private.make_file(path)
        self._file = open(path, "a+b")  # noqa: SIM115 - mapped for as long as the worker runs
        self._free: list[int] = []
        self._map: mmap.mmap | None = None
        self._size = 0

    def left_behind(self) -> list[tuple[int, int]]:
        """Return stage and record of what was in flight when the last worker died, and empty the
        file."""
        self._file.seek(0)
        raw = self._file.read()
        whole = len(raw) - len(raw) % SLOT.size
        found = [slot for slot in SLOT.iter_unpack(raw[:whole]) if slot != (0, 0)]
        self._file.truncate(0)
        return found

    def enter(self, stage: int, record: int) -> int:
        """Put the event into the file, unless the disk is full. Returns its slot, for `leave`."""
        if not self._free and not self._grow():
            return NOWHERE
        assert self._map is not None
        slot = self._free.pop()
        SLOT.pack_into(self._map, slot, stage, record)
        return slot

    def leave(self, slot: int) -> None:
        if slot == NOWHERE:
            return
        assert self._map is not None
        SLOT.pack_into(self._map, slot, 0, 0)
        self._free.append(slot)

    def _grow(self) -> bool:
        """Make more slots. Returns False when the disk has no room for them."""
        more = bytes(GROW * SLOT.size)
        # Written, not only made longer: a page of a hole that the disk has no room for kills the
        # process (SIGBUS) when it is first touched.
        try:
            written = os.write(self._file.fileno(), more)
        except OSError:
            written = 0
        if written < len(more):
            self._file.truncate(self._size)
            return False
        size = self._size + len(more)
        if self._map is None:
            self._map = mmap.mmap(self._file.fileno(), size)
        else:
            self._map.resize(size)
        self._free += range(self._size, size, SLOT.size)
        self._size = size
        return True

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
        self._file.close()


class FileSuspects:
    """`Suspects` by stage and record, with their deaths in the database."""

    def __init__(self, store: Store, stages: list[str]) -> None:
        self.store = store
        self.search = Search()
        self.in_flight = InFlight(store.path.with_name(store.path.name + ".in-flight"))
        self._marks = {name: zlib.crc32(name.encode()) | 1 << 32 for name in stages}

    def count_deaths(self) -> int:
        """Count the last worker's death, if it died, for each event that was in flight. Returns how
        many those were."""
        names = {mark: name for name, mark in self._marks.items()}
        found = {
            (names[stage], record)
            for stage, record in self.in_flight.left_behind()
            if stage in names
        }

        def is_done(db: sqlite3.Connection, stage: str, record: int) -> bool:
            position = self.store.stored_position(db, stage, record >> SHIFT)
            return position.is_done(record & ((1 << SHIFT) - 1))

        def job(db: sqlite3.Connection) -> dict[tuple[str, int], Suspect]:
            known = {
                (stage, record): Suspect(tuple(json.loads(deaths)), alone)
                for stage, record, deaths, alone in db.execute("select * from suspicion").fetchall()
            }
            death = 1 + max((n for one in known.values() for n in one.deaths), default=0)
            for key in found:
                before = known.get(key, Suspect(()))
                known[key] = Suspect((*before.deaths, death), before.alone + (len(found) == 1))
            # What had finished has only not been taken out of the file yet.
            known = {key: one for key, one in known.items() if not is_done(db, *key)}
            known |= explained(known)
            db.execute("delete from suspicion")
            db.executemany(
                "insert into suspicion (reader, record, deaths, alone) values (?, ?, ?, ?)",
                [(*key, json.dumps(one.deaths), one.alone) for key, one in known.items()],
            )
            return known

        self.search.load(self.store.writer.run(job))
        crash.at("deaths counted")
        return len(found)

    def _record(self, message: Any) -> int:
        return (self.store.part(message.tp) << SHIFT) + int(message.offset)

    def find(self, stage: str, message: Any) -> Hashable | None:
        if self.search.is_over:
            return None
        key = (stage, self._record(message))
        return key if self.search.find(key) else None

    def deaths(self, stage: str, message: Any) -> int:
        return self.search.deaths((stage, self._record(message)))

    def enter(self, stage: str, message: Any, alone: bool) -> int:
        return self.in_flight.enter(self._marks[stage], self._record(message))

    def written(self, slot: int) -> None:
        return None  # the file is memory

    def leave(self, slot: int, ended: bool) -> None:
        self.in_flight.leave(slot)
