"""The store: topics, positions and the journal of one file, for the event loop."""

import asyncio
import functools
import logging
import os
import pathlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from penstock import crash
from penstock.broker.embedded.file import SHIFT, WorkerLock
from penstock.broker.embedded.positions import Position
from penstock.broker.embedded.token import Token
from penstock.broker.embedded.topics import Topics
from penstock.broker.embedded.writer import Batch, Submission, SubmitWaiter, Waiter, read_end
from penstock.broker.tp import TP
from penstock.errors import BrokerUnavailable
from penstock.journal import unpinned
from penstock.signals import DiskRefuses, DiskTakes, Signals

log = logging.getLogger(__name__)

#: Records in the open batch at which `room` is cleared, so that producers wait for the disk.
CROWDED = 5000
#: A commit that costs less, in seconds, is made on the loop when it is small: on a fast disk two
#: switches of thread cost more than the commit.
INLINE_S = 0.002
#: Seconds that a stopping worker waits for a disk that refuses.
FLUSH_S = 5.0
#: Pages in the write-ahead log before it is copied into the database.
CHECKPOINT_PAGES = 2000

Record = tuple[int, int, bytes | None, bytes | None, bytes | None]


class Store(Topics):
    """One embedded file. `append`, `enter` and `finish` fill the open batch and do not wait.

    A process that is not the worker uses the same class without `start()`; it commits each batch
    with `commit_now()`, on the caller's thread.
    """

    def __init__(self, path: pathlib.Path, signals: Signals | None = None) -> None:
        super().__init__(path)
        self._signals = signals or Signals()
        self.lock = WorkerLock(path)
        #: The journal's entries by step, of unfinished steps only.
        self.entries: dict[str, dict[str, bytes]] = {}
        #: Set while the worker may take new work: cleared when the disk is behind or refuses.
        self.room = asyncio.Event()
        self.room.set()
        #: Called on the loop after each commit, when there is something new to read.
        self.wake: Callable[[], None] = lambda: None
        self.trouble: str | None = None
        self._positions: dict[tuple[str, TP], Position] = {}
        self._open = Batch()
        self._busy = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ends: dict[TP, int] = {}
        self._cost = 0.0
        self._token = Token(path, self.writer)
        self._checkpointing = threading.Lock()
        #: Whether another file was copied over this one: nothing is written any more.
        self.overwritten = False

    # -- life

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Become the worker's: take the lock, and commit batches as they come from here on."""
        self.lock.take()
        if self._loop is None:
            self.writer.db.execute("pragma wal_autocheckpoint = 0")
            for key, answer in self.read_db.execute("select key, value from journal"):
                self.entries.setdefault(step_of(key), {})[key] = answer
            self.writer.start()
            for _ in range(2):  # the token is in the log after the first, in the database then
                self.checkpoint()
        self._loop = loop

    @property
    def running(self) -> bool:
        """Whether this process is the file's worker, and commits batches as they come."""
        return self._loop is not None

    async def flush(self) -> None:
        """Wait until everything up to here is durable, or the disk has refused it for `FLUSH_S`."""
        if not self.running:
            return
        durable = asyncio.Event()
        self._open.waiters.append((lambda _: durable.set(), -1))
        self._touch()
        try:
            await asyncio.wait_for(durable.wait(), FLUSH_S)
        except TimeoutError:
            log.error(
                "%s: stopping with work that could not be written; it will be done again", self.path
            )

    def close(self) -> None:
        """Write what was put in, if that can be, and release the lock."""
        if self._loop is not None:
            self.look_for_another()
            self.writer.stop()
            self._loop = None
            if self._open and not self.writer.gave_up:
                self._commit_here(self._take_open())
        if self.overwritten and self._token.is_of_this_file():
            # Else SQLite would copy what is left of the old file into the new one as it closes.
            os.truncate(f"{self.path}-wal", 0)
        self.read_db.close()
        self.writer.db.close()
        self.lock.release()

    # -- reading

    def end(self, tp: TP) -> int:
        """Return the offset after the last record that may be read."""
        end = self._ends.get(tp)
        if end is None:
            end = self._ends[tp] = read_end(self.read_db, self.part(tp))
        return end

    def refresh(self) -> None:
        """Read the ends again, because another process has appended."""
        for tp, end in self._ends.items():
            # max(): what this connection sees may be older than a commit of ours.
            self._ends[tp] = max(end, read_end(self.read_db, self.part(tp)))

    def version(self) -> int:
        """Return a number that changes whenever any process has committed."""
        return int(self.read_db.execute("pragma data_version").fetchone()[0])

    def read(self, tp: TP, offset: int, limit: int) -> list[Record]:
        """Return up to `limit` records from `offset` on: offset, milliseconds since 1970, key,
        value, headers."""
        base = self.part(tp) << SHIFT
        return self.read_db.execute(
            "select id - ?, ts, key, value, headers from record"
            " where id >= ? and id < ? order by id limit ?",
            (base, base + offset, base + self.end(tp), limit),
        ).fetchall()

    def position(self, reader: str, tp: TP) -> Position:
        """Return what the topic reader has finished in `tp`; the same object each time."""
        position = self._positions.get((reader, tp))
        if position is None:
            position = self.stored_position(self.read_db, reader, self.part(tp))
            self._positions[reader, tp] = position
        return position

    def stored_position(self, db: sqlite3.Connection, reader: str, part: int) -> Position:
        """Return what the topic reader has finished according to the file, read through `db`."""
        row = db.execute(
            "select low, marks from position where reader = ? and part = ?", (reader, part)
        ).fetchone()
        return Position(*(row or ()))

    def forget_positions(self) -> None:
        """Read positions from the file again. Only for a process that is not the worker."""
        self._positions.clear()

    # -- writing

    def append(
        self,
        tp: TP,
        ts: int,
        key: bytes | None,
        value: bytes | None,
        headers: bytes | None = None,
        waiter: Waiter | None = None,
    ) -> None:
        """Append a record to `tp`. It is durable when `waiter` is called with its offset."""
        batch = self._open
        batch.records.append((self.part(tp), ts, key, value, headers))
        if waiter is not None:
            batch.waiters.append((waiter, len(batch.records) - 1))
        self._touch()

    def submit(
        self,
        id_: str,
        tp: TP,
        key: bytes,
        value: bytes,
        waiter: SubmitWaiter | None = None,
        *,
        kept: bool = False,
        content: str = "",
    ) -> None:
        """Append a record, once for each `id_`. When the id was submitted before, nothing is
        appended, and `waiter` is called with `KNOWN`, or with `TAKEN` when that was with another
        `content`. A `kept` id outlives its run."""
        record = (self.part(tp), int(time.time() * 1000), key, value, None)
        self._open.submissions.append(Submission(id_, content, kept, record, waiter))
        self._touch()

    def enter(self, key: str, answer: bytes, waiter: Waiter) -> None:
        """Add a journal entry. It is durable when `waiter` is called."""
        self.entries.setdefault(step_of(key), {})[key] = answer
        self._open.drop.pop(key, None)
        self._open.enter[key] = answer
        self._open.waiters.append((waiter, -1))
        self._touch()

    def record(self, key: str, answer: bytes) -> asyncio.Future[None]:
        """Add a journal entry. It is durable when the future is done, which is the same one for all
        the entries of a batch: whoever waits for it must not cancel it."""
        batch = self._open
        future = batch.durable
        if future is None:
            future = batch.durable = asyncio.get_running_loop().create_future()
            batch.waiters.append((functools.partial(_settle, future), -1))
        self.entries.setdefault(step_of(key), {})[key] = answer
        batch.drop.pop(key, None)
        batch.enter[key] = answer
        self._touch()
        return future

    def finish(
        self,
        reader: str,
        tp: TP,
        offset: int,
        outputs: Iterable[tuple[TP, int, bytes | None, bytes | None]] = (),
        step: str | None = None,
        waiter: Callable[[list[int]], None] | None = None,
    ) -> None:
        """End a step, all or nothing: append its outputs, delete its journal entries, mark its
        event as done. `waiter` is called with the outputs' offsets when all of it is durable."""
        batch = self._open
        first = len(batch.records)
        for output, ts, key, value in outputs:
            batch.records.append((self.part(output), ts, key, value, None))
        position = self.position(reader, tp)
        position.finish(offset)
        batch.touched[reader, self.part(tp)] = position
        if step is not None:
            for key_ in self.entries.pop(step, ()):
                # An entry that is still in the open batch never needs to be written at all.
                if batch.enter.pop(key_, None) is None:
                    batch.drop[key_] = None
        if waiter is not None:
            batch.enders.append((waiter, first, len(batch.records)))
        self._touch()

    def note_step(self, part: int, record: bytes) -> None:
        """Append `record`, a step record, to the partition `part` together with what is put in
        next: those of a commit are one record there."""
        self._open.step_records.setdefault(part, []).append(record)

    def drop_unpinned(self) -> None:
        """Delete the texts that no unfinished step began with."""
        pairs = (pair for entries in self.entries.values() for pair in entries.items())
        for key in unpinned(pairs):
            self.entries.pop(step_of(key))
            if self._open.enter.pop(key, None) is None:
                self._open.drop[key] = None
            self._touch()

    def commit_now(self) -> Batch:
        """Commit what was put in, durably. Only for a process that is not the worker.

        Raises `BrokerUnavailable` when it cannot be written and `RunBegunBefore` when a submission
        was made before with other content; then none of it is written.
        """
        batch = self._take_open()
        batch.strict = True
        try:
            self.writer.write_patiently(batch)
        except sqlite3.Error as exc:
            raise BrokerUnavailable(self.explain(exc)) from exc
        self._note(batch)
        return batch

    def _touch(self) -> None:
        if self._loop is None:
            return
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._cut)
        elif len(self._open.records) > CROWDED:
            self.room.clear()

    def _take_open(self) -> Batch:
        batch, self._open = self._open, Batch()
        batch.cut()
        return batch

    def _cut(self) -> None:
        if self._loop is None:
            return
        batch = self._take_open()
        if len(batch.records) <= 2 and len(batch.touched) <= 2 and self._cost < INLINE_S:
            started = time.perf_counter()
            if self._commit_here(batch):
                self._cost += 0.2 * (time.perf_counter() - started - self._cost)
                self._committed(batch)
                return
        # On a slow disk, a commit on the loop is tried again now and then.
        self._cost *= 0.999
        self.writer.put(batch, self._committed_elsewhere, self._stuck_elsewhere)

    def _commit_here(self, batch: Batch) -> bool:
        """Commit on this thread. Returns False while the connection is in use, or the disk refuses
        it."""
        if not self.writer.connection_lock.acquire(blocking=False):
            return False
        try:
            self.writer.write(batch)
        except sqlite3.Error:
            return False
        finally:
            self.writer.connection_lock.release()
        return True

    def _committed_elsewhere(self, batch: Batch) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._committed, batch)

    def _stuck_elsewhere(self, error: sqlite3.Error | None) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stuck, error)

    def _stuck(self, error: sqlite3.Error | None) -> None:
        if error is not None:
            self.trouble = self.explain(error)
            self.room.clear()
            self._signals.emit(DiskRefuses(self.trouble))
        else:
            self.trouble = None
            self._signals.emit(DiskTakes(str(self.path)))

    def _committed(self, batch: Batch) -> None:
        self._note(batch)
        if self._open:
            self._cut()
        else:
            self._busy = False
        if self.trouble is None:
            self.room.set()
        if batch.enter:
            crash.at("recorded", len(batch.enter))
        crash.at("known to be committed", batch.steps)
        self.wake()

    def _note(self, batch: Batch) -> None:
        """Move the ends past `batch`, which is durable, and call those who wait for it."""
        for part, end in batch.ends.items():
            tp = self._names[part]
            self._ends[tp] = max(end, self._ends.get(tp, 0))
        for waiter, index in batch.waiters:
            try:
                waiter(batch.offsets[index] if index >= 0 else -1)
            except Exception:
                # One that fails must not stop the others and all later batches.
                log.exception("%s: whoever waited for a commit failed", self.path)
        for ender, first, last in batch.enders:
            try:
                ender(batch.offsets[first:last])
            except Exception:
                log.exception("%s: whoever waited for a commit failed", self.path)
        for submission, offset in zip(batch.submissions, batch.submitted, strict=True):
            if submission.waiter is not None:
                try:
                    submission.waiter(offset)
                except Exception:
                    log.exception("%s: whoever waited for a commit failed", self.path)

    def checkpoint(self) -> None:
        """Copy the write-ahead log into the database, on the caller's thread, unless another file
        was copied over it. The writer does not wait for that, except once when the log has grown
        far past its size."""
        if self.look_for_another():
            return
        with self._checkpointing:
            db: Any = sqlite3.connect(self.path, isolation_level=None, timeout=10)
            try:
                _, pages, copied = db.execute("pragma wal_checkpoint(passive)").fetchone()
                if pages > 16 * CHECKPOINT_PAGES and pages == copied:
                    db.execute("pragma wal_checkpoint(restart)")
            finally:
                db.close()
            self._token.copied(pages, copied)

    def look_for_another(self) -> bool:
        """Return whether another file was copied over this one, and write nothing any more then."""
        with self._checkpointing:
            if not self.overwritten and self._token.was_overwritten():
                with self.writer.connection_lock:
                    self.overwritten = self.writer.gave_up = True
            return self.overwritten


def _settle(future: asyncio.Future[None], _: int) -> None:
    if not future.done():
        future.set_result(None)


def step_of(key: str) -> str:
    """Return the step of a journal key: `STAGE/EVENT` of `STAGE/EVENT/CALL`."""
    return key[: key.rindex("/")]
