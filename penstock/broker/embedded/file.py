"""The embedded broker's file: its tables, its version, its lock, and the errors it can have."""

import fcntl
import os
import pathlib
import sqlite3
import time
from typing import IO

from penstock import private
from penstock.errors import BrokerUnavailable, DatabaseUnusable, WorkerRunning

#: Increased when a table changes. A file from a newer Penstock is refused, never guessed at.
VERSION = 2
APPLICATION_ID = 0x70656E73  # "pens"
#: Seconds to wait for another process that makes the file.
MAKING_S = 10.0
#: Seconds to try for the worker's lock: a process that only looks at it holds it for a moment.
GLANCE_S = 0.03

#: A record's id is `partition id << SHIFT | offset`: appended at the end of its partition's range,
#: and the only index on records (a second one, on keys, costs 17 % of the throughput).
SHIFT = 40

SCHEMA = f"""
create table if not exists topic (name text primary key, partitions integer not null);
create table if not exists part (
    id integer primary key, topic text not null, part integer not null,
    floor integer not null default 0, -- offsets below it were given out, whatever records are left
    unique (topic, part)
);
create table if not exists record (
    id integer primary key, ts integer not null, key blob, value blob, headers blob
);
create table if not exists journal (key text primary key, value blob not null);
create table if not exists position (
    reader text not null, part integer not null, low integer not null, marks blob not null,
    primary key (reader, part)
) without rowid;
create table if not exists submission (
    id text primary key, ts integer not null, kept integer not null -- kept: a seed's, for ever
);
create table if not exists suspicion (
    reader text not null, record integer not null, deaths text not null, -- JSON: their numbers
    alone integer not null, primary key (reader, record)
) without rowid;
pragma application_id = {APPLICATION_ID};
pragma user_version = {VERSION};
"""


def connect(path: pathlib.Path) -> sqlite3.Connection:
    """Connect to the file at `path`; make and set it up when it is new.

    Raises `DatabaseUnusable` when it is damaged, newer or something else, and `BrokerUnavailable`
    when its folder cannot be written.
    """
    try:
        private.make_folder(path.parent)
        private.make_file(path)  # its log and index have the modes of the file
        db = sqlite3.connect(
            path,
            check_same_thread=False,
            isolation_level=None,
            cached_statements=256,
            timeout=MAKING_S,
        )
    except (OSError, sqlite3.OperationalError) as exc:
        raise _unopened(path, exc) from exc
    try:
        _prepare_patiently(db, path)
    except sqlite3.OperationalError as exc:
        db.close()
        raise _unopened(path, exc) from exc
    except sqlite3.DatabaseError as exc:
        db.close()
        raise DatabaseUnusable(damaged(path, exc)) from exc
    except DatabaseUnusable:
        db.close()
        raise
    return db


def identity(path: pathlib.Path) -> tuple[int, int] | None:
    """Return which file `path` is, whatever it is called; None when there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _unopened(path: pathlib.Path, exc: Exception) -> BrokerUnavailable:
    return BrokerUnavailable(
        f"{path}: cannot be opened: {exc}. Make its folder writable, or name another place:"
        " PENSTOCK_DATA or PENSTOCK_BROKER."
    )


def explain(path: pathlib.Path, error: Exception) -> str:
    """Return a sentence: what an error of SQLite means for the file, and what to do."""
    text = str(error)
    if "full" in text:
        return f"{path}: the disk is full; free some space"
    if "malformed" in text or "not a database" in text:
        return damaged(path, error)
    return f"{path}: cannot be used now: {text}"


def damaged(path: pathlib.Path, exc: Exception) -> str:
    """Return a sentence for whoever has a damaged file."""
    return (
        f"{path}: the database is damaged ({exc}). Nothing was changed. Keep a copy of the file and"
        f" of {path.name}-wal, then restore a backup, or save what can be read:"
        f" sqlite3 {path} .recover | sqlite3 {path.with_suffix('.recovered.db')}"
    )


def _prepare_patiently(db: sqlite3.Connection, path: pathlib.Path) -> None:
    """Call `_prepare`, again while another process makes the file: SQLite does not wait for the
    lock that it needs to switch the write-ahead log on."""
    deadline = time.monotonic() + MAKING_S
    while True:
        try:
            return _prepare(db, path)
        except sqlite3.OperationalError as exc:
            if "locked" not in str(exc) or time.monotonic() > deadline:
                raise
        time.sleep(0.005)


def _prepare(db: sqlite3.Connection, path: pathlib.Path) -> None:
    # The tables first: somebody may make the file in between, its name and its tables at once.
    (tables,) = db.execute("select count(*) from sqlite_master").fetchone()
    (application,) = db.execute("pragma application_id").fetchone()
    (version,) = db.execute("pragma user_version").fetchone()
    if tables and application != APPLICATION_ID:
        raise DatabaseUnusable(
            f"{path}: this is a database of another program. Name another file: PENSTOCK_BROKER"
            " or PENSTOCK_DATA."
        )
    if version > VERSION:
        raise DatabaseUnusable(
            f"{path}: written by a newer Penstock (format {version}, this one knows {VERSION})."
            " Nothing was changed. Upgrade Penstock, or name another file: PENSTOCK_BROKER."
        )
    # A statement that is refused by a full disk or another process is tried again by its caller;
    # FULL, because a commit that a power cut can undo would not be 'recorded'.
    db.execute("pragma journal_mode = wal")
    db.execute("pragma synchronous = full")
    if version < VERSION or application != APPLICATION_ID:
        db.executescript(f"begin immediate; {SCHEMA} commit;")
    # A short wait for other processes, because a small batch is committed on the event loop;
    # whoever can afford to wait longer tries again, see `Writer`.
    db.execute("pragma busy_timeout = 20")


class WorkerLock:
    """The lock of the one worker of a file. The system releases it when the worker dies."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path.with_name(path.name + ".lock")
        self.glance_s = GLANCE_S
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Take the lock. Raises `WorkerRunning` when another process holds it."""
        if self._file is not None:
            return
        private.make_folder(self.path.parent)
        private.make_file(self.path)
        file = open(self.path, "a+")  # noqa: SIM115 - kept open for as long as the lock is held
        deadline = time.monotonic() + self.glance_s
        while not _locked(file):
            if time.monotonic() < deadline:
                time.sleep(0.005)
                continue
            file.seek(0)
            pid = file.read().strip()
            file.close()
            raise WorkerRunning(
                f"{self.path}: a worker is already running{f' (process {pid})' if pid else ''}."
                " The embedded broker has one worker. Stop that one, or use Kafka for many:"
                " PENSTOCK_BROKER=kafka://localhost:9092"
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None

    def is_held(self) -> bool:
        """Return whether a worker is running, in this process or another."""
        if self._file is not None:
            return True
        try:
            with open(self.path) as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
