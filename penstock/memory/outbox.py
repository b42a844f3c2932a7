"""The outbox: notes on this machine's disk until the memory has them.

A SQLite file, so that several processes may share it, and that one of them delivers what another
could not. A note leaves it only after Qdrant has said that it is stored, and a second delivery
changes nothing, so a process may be killed at any point.
"""

import contextlib
import logging
import os
import pathlib
import sqlite3
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from penstock import private
from penstock.errors import Unavailable
from penstock.record.notes import Note, checked

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds to wait for another process that writes.
BUSY_S = 10.0
TABLE = """
create table if not exists note (
    seq integer primary key autoincrement,
    id text not null unique,
    kind text not null,
    task text not null,
    lesson text not null,
    created real not null,
    refused text not null default ''
)
"""


class Outbox:
    """The notes that wait. Every method blocks for a disk: for one thread that is not the loop's.

    Each raises `Unavailable` when the file cannot be read or written now.
    """

    def __init__(self, path: pathlib.Path, most: int) -> None:
        self.path = path
        #: Notes that may wait. When there are more, the oldest go.
        self.most = most
        #: Notes that have gone because there were too many, since the outbox was last empty.
        self.dropped = 0
        self._db: sqlite3.Connection | None = None

    def put(self, note: Note) -> int:
        """`note` is on the disk; how many wait. It takes the place of one with the same id."""
        columns = (note.id, note.kind, note.task, note.lesson, note.created)

        def write(db: sqlite3.Connection) -> tuple[int, int]:
            # A replaced note gets a new number: the delivery of the old one must not remove it.
            db.execute(
                "insert or replace into note (id, kind, task, lesson, created)"
                " values (?, ?, ?, ?, ?)",
                columns,
            )
            (kept,) = db.execute("select count(*) from note").fetchone()
            too_many = kept - self.most
            if too_many > 0:
                db.execute(
                    "delete from note where seq in (select seq from note order by seq limit ?)",
                    (too_many,),
                )
            return _count(db), max(0, too_many)

        waiting, gone = self._do(write)
        if gone and not self.dropped:
            log.error(
                "%d notes wait for the memory, and there is no room for more: the oldest go, each"
                " for a new one. Bring the memory back, or raise PENSTOCK_MEMORY_NOTES",
                waiting,
                extra={"action": "memory_overflow"},
            )
        self.dropped += gone
        return waiting

    def first(self, count: int) -> list[tuple[int, Note]]:
        """The oldest `count` notes that wait, each with its number."""
        rows = self._do(
            lambda db: db.execute(
                "select seq, id, kind, task, lesson, created from note where refused = ''"
                " order by seq limit ?",
                (count,),
            ).fetchall()
        )
        return [(seq, Note(id, checked(kind), *rest)) for seq, id, kind, *rest in rows]

    def remove(self, numbers: Iterable[int]) -> int:
        """These notes are delivered, and no longer here; how many wait."""

        def write(db: sqlite3.Connection) -> int:
            db.executemany("delete from note where seq = ?", [(number,) for number in numbers])
            return _count(db)

        waiting = self._do(write)
        if not waiting:
            self.dropped = 0
        return waiting

    def refuse(self, number: int, reason: str) -> None:
        """This note is kept, but not tried again before a process opens the outbox anew."""
        self._do(
            lambda db: db.execute("update note set refused = ? where seq = ?", (reason, number))
        )

    def waiting(self) -> int:
        """How many notes wait, those that were refused left out."""
        return self._do(_count)

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _do(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """What `job` returns, in one transaction that is on the disk afterwards."""
        try:
            db = self._opened()
            db.execute("begin immediate")
            try:
                result = job(db)
                db.execute("commit")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    db.execute("rollback")
                raise
            return result
        except (sqlite3.Error, OSError) as exc:
            raise Unavailable(f"{self.path}: notes cannot be kept: {exc}") from exc

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            private.make_folder(self.path.parent)
            private.make_file(self.path)
            try:
                self._db = self._connect()
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as exc:
                self._set_aside(exc)
                self._db = self._connect()
        return self._db

    def _connect(self) -> sqlite3.Connection:
        # Opened and used in one thread, and closed by whoever ends.
        db = sqlite3.connect(
            self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            db.execute("pragma journal_mode = wal")
            # In WAL, NORMAL would let a power cut take what was said to be kept.
            db.execute("pragma synchronous = full")
            db.execute(TABLE)
            db.execute("update note set refused = '' where refused <> ''")
        except BaseException:
            db.close()
            raise
        return db

    def _set_aside(self, error: Exception) -> None:
        """A file that is no database any more keeps nobody from remembering."""
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
        os.replace(self.path, aside)
        for ending in ("-wal", "-shm"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
        log.error("%s is damaged (%s). It is kept as %s; a new one begins", self.path, error, aside)


def _count(db: sqlite3.Connection) -> int:
    return int(db.execute("select count(*) from note where refused = ''").fetchone()[0])
