"""Batches: everything that is to be durable, committed one batch a transaction.

The event loop puts records, journal entries and positions into the one open batch. Whenever the
writer's thread is free it commits the batch as a whole, with one switch of threads there and one
back, however many steps are in it.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from penstock import crash
from penstock.broker.embedded.file import SHIFT
from penstock.record.events import begun_before
from penstock.record.steps import joined

log = logging.getLogger(__name__)

#: Rows a statement: the interpreter's lock is released once for many rows, and few statements are
#: cached.
CHUNKS = (128, 32, 8, 2, 1)
#: Seconds between tries of a batch that could not be written.
RETRY_S = 0.5
#: Seconds to wait for another process that is writing before that is an error.
LOCKED_S = 10.0

#: A record before it has an offset: partition, milliseconds, key, value, headers.
Pending = tuple[int, int, bytes | None, bytes | None, bytes | None]
Waiter = Callable[[int], None]
Ender = Callable[[list[int]], None]
SubmitWaiter = Callable[[int], None]

#: In place of an offset: what was submitted before, with the same content or with another.
KNOWN, TAKEN = -1, -2


def _many(sql: str, one: str) -> dict[int, str]:
    return {n: sql.format(",".join([one] * n)) for n in CHUNKS}


INSERT = _many("insert into record (id, ts, key, value, headers) values {}", "(?,?,?,?,?)")
ENTER = _many("insert or replace into journal (key, value) values {}", "(?,?)")
DROP = _many("delete from journal where key in ({})", "?")
SUBMIT = "insert or ignore into submission (id, ts, kept) values (?,?,?)"
#: The content is in a row of its own, `ID|DIGEST`. Earlier versions wrote none: any content is then
#: taken for the same.
CONTENTS = "select id from submission where id > ? || '|' and id < ? || '}'"
POSITION = "insert or replace into position (reader, part, low, marks) values (?,?,?,?)"


def chunked(db: sqlite3.Connection, sqls: dict[int, str], rows: Sequence[Sequence[Any]]) -> None:
    done = 0
    for size in CHUNKS:
        while len(rows) - done >= size:
            db.execute(sqls[size], [value for row in rows[done : done + size] for value in row])
            done += size


class Submission(NamedTuple):
    """The beginning of a run, done once for each `id`. A `kept` id outlives its run."""

    id: str
    content: str
    kept: bool
    record: Pending
    waiter: SubmitWaiter | None


class Batch:
    """What becomes durable together: all of it or none."""

    __slots__ = (
        "drop",
        "durable",
        "enders",
        "ends",
        "enter",
        "offsets",
        "positions",
        "records",
        "step_records",
        "strict",
        "submissions",
        "submitted",
        "touched",
        "waiters",
    )

    def __init__(self) -> None:
        self.records: list[Pending] = []
        #: By the partition that they are written to, as one record each.
        self.step_records: dict[int, list[bytes]] = {}
        #: Journal entries by key; of two for one key in a batch the later one counts.
        self.enter: dict[str, bytes] = {}
        self.drop: dict[str, None] = {}
        #: Done when all of it is durable; made for the first entry.
        self.durable: asyncio.Future[None] | None = None
        self.touched: dict[tuple[str, int], Any] = {}
        #: Called on the loop once the batch is durable, with the offset of record `index`.
        self.waiters: list[tuple[Waiter, int]] = []
        #: The same for steps' ends, with the offsets of records `first` to `last`. The callbacks
        #: must not refer to the batch: a cycle keeps its records until the garbage collector runs.
        self.enders: list[tuple[Ender, int, int]] = []
        #: Beginnings of runs; those that were submitted before are left out.
        self.submissions: list[Submission] = []
        self.submitted: list[int] = []
        #: Whether nothing is written when a submission had been made with other content.
        self.strict = False
        self.positions: list[tuple[str, int, int, bytes]] = []
        self.offsets: list[int] = []
        #: The offset after the last one, for each partition that got records.
        self.ends: dict[int, int] = {}

    def __bool__(self) -> bool:
        # Waiters alone too: who flushes waits for a batch of its own when another is being written.
        return bool(
            self.records
            or self.enter
            or self.drop
            or self.touched
            or self.submissions
            or self.waiters
        )

    @property
    def steps(self) -> int:
        """How many steps with an output end in it."""
        return len(self.records) if self.touched else 0

    def cut(self) -> None:
        """Take the positions as they are now: with all that this and earlier batches finished."""
        self.positions = [
            (reader, part, *position.dump()) for (reader, part), position in self.touched.items()
        ]


class Writer:
    """Commits batches on one connection, in their order, and skips none.

    A batch that cannot be written is tried again before any later one: with a later batch's
    positions its steps would count as finished, and its outputs would be lost.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        #: Held while somebody uses the connection: the writer's thread, or the loop for a small
        #: batch when the thread is idle.
        self.connection_lock = threading.Lock()
        self._next: dict[int, int] = {}
        self._version: int | None = None
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        #: A batch was given up: nothing may be written after it.
        self.gave_up = False
        self.retry_s = RETRY_S

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="penstock-writer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait until all that was put in before is written, or cannot be; end the thread."""
        self._closing.set()
        self._jobs.put(None)
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        # What was put in after the end mark is run here, so that nobody waits for it in vain.
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is not None:
                job()

    def put(
        self,
        batch: Batch,
        committed: Callable[[Batch], None],
        stuck: Callable[[sqlite3.Error | None], None],
    ) -> None:
        """Commit `batch` on the writer's thread, then call `committed` there. `stuck` is called
        with the error when it cannot be written, and with None when it can again."""

        def job() -> None:
            failed = False
            while not self.gave_up:
                last = self._closing.is_set()
                try:
                    self.write_patiently(batch)
                    break
                except sqlite3.Error as exc:
                    if not failed:
                        stuck(exc)
                    failed = True
                    self.gave_up = last
                    self._closing.wait(self.retry_s)
            if self.gave_up:
                return
            if failed:
                stuck(None)
            committed(batch)

        self._jobs.put(job)

    def write_patiently(self, batch: Batch) -> None:
        """Do `write`, and wait up to `LOCKED_S` for another process that is writing."""
        self._patiently(lambda: self.write(batch))

    def _patiently(self, action: Callable[[], None]) -> None:
        deadline = time.monotonic() + LOCKED_S
        while True:
            try:
                with self.connection_lock:
                    action()
                return
            except sqlite3.OperationalError as exc:
                if "locked" not in str(exc) or time.monotonic() > deadline:
                    raise

    def run(self, job: Callable[[sqlite3.Connection], Any]) -> Any:
        """Run `job` between two batches, in a transaction of its own, and return its result."""
        done = threading.Event()
        result: list[Any] = []

        def transaction() -> None:
            self._require_writable()
            try:
                self.db.execute("begin immediate")
                made = job(self.db)
                self.db.execute("commit")
            except BaseException:
                self._roll_back()
                raise
            result.append(made)

        def call() -> None:
            try:
                self._patiently(transaction)
            except Exception as exc:
                result.append(exc)
            done.set()

        if self._thread is None:
            call()
        else:
            self._jobs.put(call)
            done.wait()
        if isinstance(result[0], Exception):
            raise result[0]
        return result[0]

    def _require_writable(self) -> None:
        if self.gave_up:
            raise sqlite3.OperationalError("nothing is written after what was given up")

    def _roll_back(self) -> None:
        if self.db.in_transaction:
            self.db.execute("rollback")

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def write(self, batch: Batch) -> None:
        """Write `batch` durably and set `batch.offsets`, its records' offsets in their order.

        Raises `sqlite3.Error` when it cannot be written; then none of it is. The caller holds
        `connection_lock`.
        """
        self._require_writable()
        try:
            self._write(batch)
        except BaseException:
            self._roll_back()
            raise

    def _write(self, batch: Batch) -> None:
        db = self.db
        db.execute("begin immediate")
        (version,) = db.execute("pragma data_version").fetchone()
        if version != self._version:
            # Another process has appended since: the ends in memory are old.
            self._version = version
            self._next.clear()
        after: dict[int, int] = {}
        rows, offsets = [], []
        for part, ts, key, value, headers in batch.records:
            offset = after.get(part)
            if offset is None:
                offset = self._next.get(part)
                if offset is None:
                    offset = read_end(db, part)
            rows.append(((part << SHIFT) + offset, ts, key, value, headers))
            offsets.append(offset)
            after[part] = offset + 1
        submitted: list[int] = []
        for one in batch.submissions:
            part, ts, key, value, headers = one.record
            if not db.execute(SUBMIT, (one.id, ts, one.kept)).rowcount:
                contents = [id_ for (id_,) in db.execute(CONTENTS, (one.id, one.id))]
                same = not contents or f"{one.id}|{one.content}" in contents
                if not same and batch.strict:
                    raise begun_before((key or b"").decode(errors="replace"))
                submitted.append(KNOWN if same else TAKEN)
                continue
            db.execute(SUBMIT, (f"{one.id}|{one.content}", ts, one.kept))
            offset = after.get(part, self._next.get(part))
            offset = read_end(db, part) if offset is None else offset
            rows.append(((part << SHIFT) + offset, ts, key, value, headers))
            submitted.append(offset)
            after[part] = offset + 1
        for part, step_records in batch.step_records.items():
            offset = after.get(part, self._next.get(part))
            offset = read_end(db, part) if offset is None else offset
            value = joined(step_records)
            rows.append(((part << SHIFT) + offset, int(time.time() * 1000), None, value, None))
            after[part] = offset + 1
        chunked(db, INSERT, rows)
        if batch.enter:
            chunked(db, ENTER, list(batch.enter.items()))
            crash.at("answers written", len(batch.enter))
        if batch.drop:
            chunked(db, DROP, [(key,) for key in batch.drop])
        crash.at("outputs written", batch.steps)
        if batch.positions:
            db.executemany(POSITION, batch.positions)
        crash.at("step written", batch.steps)
        db.execute("commit")
        crash.at("committed", batch.steps)
        self._next.update(after)
        batch.offsets, batch.submitted, batch.ends = offsets, submitted, after


def read_end(db: sqlite3.Connection, part: int) -> int:
    """Return the offset of the next record of partition `part`."""
    base = part << SHIFT
    (floor,) = db.execute("select floor from part where id = ?", (part,)).fetchone()
    (last,) = db.execute(
        "select max(id) from record where id >= ? and id < ?", (base, base + (1 << SHIFT))
    ).fetchone()
    return max(int(floor), 0 if last is None else last - base + 1)
