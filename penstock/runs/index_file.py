"""The file of the index: its tables and their version, connections to it, and its damage."""

import contextlib
import fcntl
import json
import os
import pathlib
import sqlite3
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import cramjam

from penstock import private
from penstock.errors import BrokerUnavailable

#: Increased when a table changes, or what is put into one.
VERSION = 1
#: The id of an event or a step is `run number << SHIFT | its number in the run`: those of a run are
#: side by side, and found without another index.
SHIFT = 20
MOST_IN_RUN = 1 << SHIFT
#: Seconds between tries for the lock of whoever fills the file.
LOCK_LOOK_S = 0.05
#: Kilobytes of the file that a connection holds in memory.
CACHE_KB = 32_000
#: Bytes of a page: with SQLite's own 4,096 it takes half as long again to fill the file.
PAGE_BYTES = 16_384
#: Pages in the write-ahead log before it is copied into the file: what changes often is copied
#: once.
CHECKPOINT_PAGES = 6_000

SCHEMA = """
create table about (name text primary key, value) without rowid;
create table cursor (
    topic text, part integer, id text not null, next integer not null, primary key (topic, part)
) without rowid;
create table run (
    n integer primary key, trace_id text not null unique,
    pipeline text not null default '', state text, -- null while no event of it is known
    began real, last real, line text not null default '', stage text not null default '',
    input_tokens integer not null default 0, output_tokens integer not null default 0,
    cost real not null default 0, unpriced integer not null default 0,
    saved real not null default 0, retries integer not null default 0,
    recalled integer not null default 0,
    cards text not null default '', models text not null default '', -- between bars: |a|b|
    tags text not null default '{}', forked_from text,
    cancelled integer not null default 0, has_dead integer not null default 0,
    events integer not null default 0, steps integer not null default 0, -- numbers given out
    dirty integer not null default 1
);
create index run_by_time on run (began, n) where state is not null;
create index run_by_state on run (state, began, n);
create index run_by_pipeline on run (pipeline, began, n) where state is not null;
create index run_to_settle on run (n) where dirty;
create table event (
    id integer primary key, topic text not null, part integer not null, offset integer not null,
    event_id text not null, replay integer not null, only_for text, parent_id text,
    stage text not null, created real not null, attempt integer not null,
    agent text, card text, model text, requests integer, input_tokens integer,
    output_tokens integer, makes text -- the part whose text is searched; null: all
);
create table event_raw (id integer primary key, value blob not null);
create table step (
    id integer primary key, record_id text not null, event_id text not null,
    replay integer not null, stage text not null, who text not null, card text, -- NAME@HASH
    ended real not null, retries integer not null, recalled integer not null
);
create table step_raw (id integer primary key, value blob not null);
create table used ( -- what a step's calls of one model used
    step integer not null, model text not null, day text not null, calls integer not null,
    recalled integer not null, input_tokens integer not null, cached_tokens integer not null,
    output_tokens integer not null, cost real not null, unpriced integer not null,
    saved real not null, primary key (step, model, day)
) without rowid;
create table tag (
    name text, value text, n integer, primary key (name, value, n)
) without rowid;
create index tag_by_run on tag (n);
create table dead (id text primary key, n integer not null, resolved text, value blob not null);
create index dead_by_run on dead (n);
create virtual table body using fts5 (
    text, content = '', columnsize = 0, tokenize = 'unicode61 remove_diacritics 2'
);
-- Texts are gathered in memory for a whole batch (in bytes), and merged seldom: half the time.
insert into body (body, rank) values ('hashsize', 16777216);
insert into body (body, rank) values ('automerge', 16);
"""

#: Of a run what is listed, with `unpriced` for a cost that is not known.
COLUMNS = (
    *("n", "trace_id", "pipeline", "state", "began", "last", "line", "stage"),
    *("input_tokens", "output_tokens", "cost", "unpriced", "saved", "retries", "recalled"),
    *("cards", "models", "tags", "forked_from"),
)


class EventRow(NamedTuple):
    """An event as the table has it."""

    id: int
    topic: str
    part: int
    offset: int
    event_id: str
    replay: int
    only_for: str | None
    parent_id: str | None
    stage: str
    created: float
    attempt: int
    agent: str | None
    card: str | None
    model: str | None
    requests: int | None
    input_tokens: int | None
    output_tokens: int | None
    makes: str | None


class Damaged(Exception):
    """The file cannot be used, and is made anew."""


class IndexFile:
    """A connection to the file of an index, which is `of` an app on a broker."""

    def __init__(self, path: pathlib.Path, of: str) -> None:
        self._path = path
        self._of = of
        self._db: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None

    def open(self, make: bool = False) -> sqlite3.Connection:
        """Return the connection. Raises `Damaged` for a file that is not there, unless it is to be
        made, and for one of something else."""
        if self._db is not None and _inode(self._path) == self._inode:
            return self._db
        self.close()
        if make:
            private.make_file(self._path)
        elif not self._path.exists():
            raise Damaged
        db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None, timeout=30)
        self._db, self._inode = db, _inode(self._path)
        (version,) = db.execute("pragma user_version").fetchone()
        db.execute(f"pragma page_size = {PAGE_BYTES}")
        db.execute("pragma journal_mode = wal")
        # What a power cut takes away is read again.
        db.execute("pragma synchronous = normal")
        db.execute("pragma secure_delete = fast")
        db.execute(f"pragma cache_size = -{CACHE_KB}")
        db.execute(f"pragma wal_autocheckpoint = {CHECKPOINT_PAGES}")
        if version == 0 and make:
            db.executescript(f"begin immediate; {SCHEMA} pragma user_version = {VERSION}; commit;")
            db.execute("insert into about values ('of', ?)", (self._of,))
        elif version != VERSION or about(db, "of") != self._of:
            raise Damaged
        return db

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db = None

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Inside, no other process fills the file."""
        private.make_folder(self._path.parent)
        lock = self._path.with_name(self._path.name + ".lock")
        private.make_file(lock)
        with open(lock, "a") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(LOCK_LOOK_S)
            yield

    def delete(self) -> None:
        """The file is deleted, to be made anew."""
        self.close()
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


#: What a damaged file leads to, among other things: see `is_damage`.
DAMAGE = (Damaged, sqlite3.DatabaseError, cramjam.DecompressionError)


def is_damage(error: Exception) -> bool:
    """Whether the file is to be made anew: not where it is locked, or the disk is full."""
    if not isinstance(error, sqlite3.Error):
        return True
    # A file that was cut is an I/O error. The last is what FTS5 says of pages of something else.
    codes = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR)
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (*codes, sqlite3.SQLITE_ERROR)


@contextlib.contextmanager
def explained(path: pathlib.Path) -> Iterator[None]:
    """Inside, a file that cannot be used raises `BrokerUnavailable`."""
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        raise BrokerUnavailable(
            f"{path}: the index of runs cannot be used: {exc}. Make room, or its folder"
            " writable, or name another: PENSTOCK_DATA"
        ) from exc


def _inode(path: pathlib.Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("begin immediate")
    try:
        yield
    except BaseException:
        db.execute("rollback")
        raise
    db.execute("commit")


def about(db: sqlite3.Connection, name: str) -> Any:
    """Return what is noted about the whole index as `name`; None if nothing is."""
    row = db.execute("select value from about where name = ?", (name,)).fetchone()
    return None if row is None else row[0]


def note_about(db: sqlite3.Connection, name: str, value: Any) -> None:
    """Note `value` about the whole index, in place of what was noted as `name`."""
    db.execute("insert or replace into about values (?, ?)", (name, value))


def rows_of(
    db: sqlite3.Connection, table: str, columns: Iterable[str], numbers: Iterable[int]
) -> dict[int, list[tuple[Any, ...]]]:
    """Return the rows of the runs `numbers`, by number."""
    id_ = "step" if table == "used" else "id"
    rows = db.execute(
        f"select value, {', '.join(f't.{name}' for name in columns)} from json_each(?)"
        f" cross join {table} t on t.{id_} >= value << {SHIFT} and t.{id_} < value + 1 << {SHIFT}",
        (json.dumps(list(numbers)),),
    )
    found: dict[int, list[tuple[Any, ...]]] = {}
    for number, *row in rows:
        found.setdefault(number, []).append(tuple(row))
    return found


def span(number: int) -> tuple[int, int]:
    """The ids of a run's events and steps: from, and below."""
    return number << SHIFT, number + 1 << SHIFT


def pack(raw: bytes) -> bytes:
    # Not zlib, nor zstd: records are packed by the thousand, and both take as long as all the rest.
    return bytes(cramjam.lz4.compress_block(raw))


def unpack(packed: bytes) -> bytes:
    return bytes(cramjam.lz4.decompress_block(packed))


def barred(names: Iterable[str]) -> str:
    """Return `names` between bars, as a column has them."""
    found = "|".join(sorted(names))
    return f"|{found}|" if found else ""


def unbarred(text: str) -> tuple[str, ...]:
    """Return the names that `barred` was given."""
    return tuple(filter(None, text.split("|")))
