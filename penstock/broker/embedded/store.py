"""The store: topics, positions and the journal of one file, as the event loop sees them."""

import asyncio
import functools
import logging
import pathlib
import sqlite3
import time
from collections.abc import Callable, Iterable
from typing import Any

from faust.types import TP

from penstock import crash
from penstock.broker.embedded.file import SHIFT, WorkerLock
from penstock.broker.embedded.positions import Position
from penstock.broker.embedded.topics import Topics
from penstock.broker.embedded.writer import Batch, Submission, SubmitWaiter, Waiter, read_end
from penstock.errors import BrokerUnavailable
from penstock.signals import DiskRefuses, DiskTakes, Signals

log = logging.getLogger(__name__)

#: Records in the open batch at which `room` is cleared: whoever produces waits for the disk.
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
    """One embedded file. `append`, `enter` and `finish` fill the open batch; nothing waits.

    A process that only submits or reads uses the same class without `start()`: then every batch is
    committed by the caller's thread, in `commit_now()`.
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

    # -- life

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """The worker's: from here on batches are committed as they come. Takes the lock."""
        self.lock.take()
        if self._loop is None:
            self.writer.db.execute("pragma wal_autocheckpoint = 0")
            for key, answer in self.reader.execute("select key, value from journal"):
                self.entries.setdefault(step_of(key), {})[key] = answer
            self.writer.start()
        self._loop = loop

    @property
    def running(self) -> bool:
        """Whether this process is the worker, and commits batches as they come."""
        return self._loop is not None

    async def flush(self) -> None:
        """Everything up to here is durable, or the disk has refused it for `FLUSH_S`."""
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
        """What was handed over is written, if it can be, and the lock is free."""
        if self._loop is not None:
            self.writer.stop()
            self._loop = None
            if self._open and not self.writer.gave_up:
                self._commit_here(self._take_open())
        self.reader.close()
        self.writer.db.close()
        self.lock.release()

    # -- reading

    def end(self, tp: TP) -> int:
        """The offset after the last record that may be read."""
        end = self._ends.get(tp)
        if end is None:
            end = self._ends[tp] = read_end(self.reader, self.part(tp))
        return end

    def refresh(self) -> None:
        """Another process appended: look at the ends again."""
        for tp, end in self._ends.items():
            # max(): the reader's view may be older than a commit of ours.
            self._ends[tp] = max(end, read_end(self.reader, self.part(tp)))

    def version(self) -> int:
        """Changes whenever anybody has committed."""
        return int(self.reader.execute("pragma data_version").fetchone()[0])

    def read(self, tp: TP, offset: int, limit: int) -> list[Record]:
        """Up to `limit` records from `offset` on: offset, milliseconds, key, value, headers."""
        base = self.part(tp) << SHIFT
        return self.reader.execute(
            "select id - ?, ts, key, value, headers from record"
            " where id >= ? and id < ? order by id limit ?",
            (base, base + offset, base + self.end(tp), limit),
        ).fetchall()

    def position(self, reader: str, tp: TP) -> Position:
        """What `reader` has finished in `tp`; the one object for it in this process."""
        position = self._positions.get((reader, tp))
        if position is None:
            position = self.stored_position(self.reader, reader, self.part(tp))
            self._positions[reader, tp] = position
        return position

    def stored_position(self, db: sqlite3.Connection, reader: str, part: int) -> Position:
        """What `reader` had finished when the file was last written, seen through `db`."""
        row = db.execute(
            "select low, marks from position where reader = ? and part = ?", (reader, part)
        ).fetchone()
        return Position(*(row or ()))

    def forget_positions(self) -> None:
        """A process that only reads: look at the file again."""
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
        """A record at the end of `tp`, durable when `waiter` is called with its offset."""
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
        """Like `append`, once for each `id_`: `waiter` is called with `KNOWN` when that id was
        submitted before, with `TAKEN` when that was with another `content`, and then nothing is
        appended. A `kept` id outlives its run."""
        record = (self.part(tp), int(time.time() * 1000), key, value, None)
        self._open.submissions.append(Submission(id_, content, kept, record, waiter))
        self._touch()

    def enter(self, key: str, answer: bytes, waiter: Waiter) -> None:
        """A journal entry, durable when `waiter` is called."""
        self.entries.setdefault(step_of(key), {})[key] = answer
        self._open.drop.pop(key, None)
        self._open.enter[key] = answer
        self._open.waiters.append((waiter, -1))
        self._touch()

    def record(self, key: str, answer: bytes) -> asyncio.Future[None]:
        """A journal entry, durable when the future is done: one for all the entries of a batch,
        as they become durable together. Whoever waits for it must not cancel it."""
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
        """A step's end, all or nothing: its outputs appended, its journal entries gone, its event
        done. `waiter` is called with the outputs' offsets when all of it is durable."""
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

    def commit_now(self) -> Batch:
        """For a process that is not the worker: what was put in is durable.

        Raises `BrokerUnavailable` when it cannot be written and `RunBegunBefore` when one of the
        submissions is taken, and then nothing of it is.
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
        """Committed on this thread; False when the connection is in use or the disk refuses."""
        if not self.writer.turn.acquire(blocking=False):
            return False
        try:
            self.writer.write(batch)
        except sqlite3.Error:
            return False
        finally:
            self.writer.turn.release()
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
        """`batch` is durable: move the ends, and tell who waits."""
        for part, end in batch.ends.items():
            tp = self._names[part]
            self._ends[tp] = max(end, self._ends.get(tp, 0))
        for waiter, index in batch.waiters:
            try:
                waiter(batch.offsets[index] if index >= 0 else -1)
            except Exception:
                # One that fails must not keep the others, and all later batches, waiting.
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
        """The write-ahead log is copied into the database, on the caller's thread, without making
        the writer wait; when it has grown far past its size, the writer waits once."""
        db: Any = sqlite3.connect(self.path, isolation_level=None, timeout=10)
        try:
            _, pages, copied = db.execute("pragma wal_checkpoint(passive)").fetchone()
            if pages > 16 * CHECKPOINT_PAGES and pages == copied:
                db.execute("pragma wal_checkpoint(restart)")
        finally:
            db.close()


def _settle(future: asyncio.Future[None], _: int) -> None:
    if not future.done():
        future.set_result(None)


def step_of(key: str) -> str:
    """The step that a journal key belongs to: `STAGE/EVENT` of `STAGE/EVENT/CALL`."""
    return key[: key.rindex("/")]
