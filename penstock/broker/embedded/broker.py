"""The embedded broker for a process that is not its worker: begin runs, append, read."""

import contextlib
import functools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

from penstock.broker.contract import (
    FOLLOW_BYTES,
    Beginning,
    Extent,
    Found,
    Location,
    Plan,
    Row,
    Spans,
    Unread,
)
from penstock.broker.embedded import renames
from penstock.broker.embedded.file import SHIFT, damaged, identity
from penstock.broker.embedded.store import Store
from penstock.broker.embedded.writer import KNOWN, read_end
from penstock.broker.tp import TP
from penstock.errors import BrokerUnavailable, DatabaseUnusable, PenstockError
from penstock.record.events import content_of
from penstock.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])


def _explaining(method: F) -> F:
    """`method`, which raises `DatabaseUnusable` where the file is damaged: whoever reads it into a
    file of another kind must not take that one for damaged."""

    @functools.wraps(method)
    def explaining(self: "EmbeddedBroker", *args: Any) -> Any:
        try:
            return method(self, *args)
        except sqlite3.DatabaseError as exc:
            raise DatabaseUnusable(self.store.explain(exc)) from exc

    return cast(F, explaining)


class EmbeddedBroker:
    """`Broker` on an embedded file."""

    def __init__(self, settings: Settings, plan: Plan) -> None:
        self.settings = settings
        self.plan = plan
        self.store = Store(settings.database)
        #: Held while rows are put into the store's open batch and committed.
        self._appending = threading.Lock()
        self._one_at_a_time = threading.Lock()

    # -- writing

    def begin(self, runs: Sequence[Beginning]) -> list[Location | None]:
        begun: list[Location | None] = []
        with self._appending:
            for run in runs:
                self._create(run.topic)
                tp = TP(run.topic, self.store.partition_of(run.topic, run.key))

                def durable(offset: int, tp: TP = tp) -> None:
                    begun.append(None if offset == KNOWN else Location(tp.partition, offset))

                content = content_of(run.value)
                self.store.submit(run.id, tp, run.key, run.value, durable, content=content)
            self.store.commit_now()
        return begun

    def append(self, rows: Sequence[Row]) -> list[Location]:
        locations: list[Location] = []
        with self._appending:
            for row in rows:
                self._create(row.topic)
                tp = TP(row.topic, self.store.partition_of(row.topic, row.key))

                def durable(offset: int, tp: TP = tp) -> None:
                    locations.append(Location(tp.partition, offset))

                self.store.append(tp, int(time.time() * 1000), row.key, row.value, None, durable)
            self.store.commit_now()
        return locations

    def cancel(self, key: bytes, value: bytes) -> None:
        self.append([Row(self.plan.cancels, key, value)])

    def _create(self, topic: str) -> None:
        """Make `topic` if it is missing, with as many partitions as the other topics of its
        pipeline have, if there are any."""
        if self.store.partitions(topic) is not None:
            return
        siblings = next((one.topics for one in self.plan.pipelines if topic in one.topics), ())
        there = (self.store.partitions(name) for name in siblings)
        count = next((count for count in there if count), self.settings.partitions)
        self.store.create(topic, count, self.plan.readers.get(topic, ()))

    # -- reading

    def worker_running(self) -> bool:
        return self.store.lock.is_held()

    def version(self) -> int:
        return self.store.version()

    def find(self, topic: str, key: bytes | None, start: int = 0) -> list[Found]:
        if self.store.partitions(topic) is None:
            return []
        if key is None:
            parts = range(self.store.partitions(topic) or 0)
        else:
            partition = self.store.partition_of(topic, key)
            parts = range(partition, partition + 1)
        found = []
        for partition in parts:
            base = self.store.part(TP(topic, partition)) << SHIFT
            rows = self.store.read_db.execute(
                "select id - ?, ts, key, value from record where id >= ? and id < ?"
                + ("" if key is None else " and key = ?"),
                (base, base + start, base + (1 << SHIFT), *(() if key is None else (key,))),
            )
            found += [Found(topic, partition, *row) for row in rows]
        return found

    @_explaining
    def extents(self, topics: Sequence[str]) -> dict[TP, Extent]:
        db, file = self.store.read_db, identity(self.store.path)
        found = {}
        for topic in topics:
            for partition in range(self.store.partitions(topic) or 0):
                tp = TP(topic, partition)
                part = self.store.part(tp)
                end, base = read_end(db, part), part << SHIFT
                (first,) = db.execute(
                    "select min(id) from record where id >= ? and id < ?", (base, base + end)
                ).fetchone()
                found[tp] = Extent(f"{file}/{part}", end if first is None else first - base, end)
        return found

    @_explaining
    def follow(self, spans: Spans, limit: int) -> tuple[list[Found], dict[TP, int]]:
        found: list[Found] = []
        after: dict[TP, int] = {}
        size = 0
        for tp, span in spans.items():
            base = self.store.part(tp) << SHIFT
            rows = self.store.read_db.execute(
                "select id - ?, ts, key, value from record where id >= ? and id < ? order by id",
                (base, base + span.start, base + span.stop),
            )
            with contextlib.closing(rows):
                for offset, ts, key, value in rows:
                    if len(found) == limit or size > FOLLOW_BYTES:
                        after[tp] = offset
                        return found, after
                    size += len(value or b"")
                    found.append(Found(*tp, offset, ts, key or b"", value or b""))
            after[tp] = span.stop
        return found, after

    @_explaining
    def kept(self, topic: str, partition: int, offsets: Sequence[int]) -> set[int]:
        base = self.store.part(TP(topic, partition)) << SHIFT
        there = "select id from record where id = ?"
        lookups = (self.store.read_db.execute(there, (base + one,)) for one in offsets)
        return {one for one, row in zip(offsets, lookups, strict=True) if row.fetchone()}

    def unfinished(self, stage: str, topic: str) -> int:
        self.store.forget_positions()
        self.store.refresh()
        count = 0
        for partition in range(self.store.partitions(topic) or 0):
            tp = TP(topic, partition)
            count += self.store.position(stage, tp).unfinished(self.store.end(tp))
        return count

    def is_done(self, stage: str, record: Found) -> bool:
        tp = TP(record.topic, record.partition)
        return self.store.position(stage, tp).is_done(record.offset)

    @_explaining
    def gone(self) -> Mapping[str, Sequence[str]]:
        return self.plan.gone(renames.known_readers(self.store))

    def unread(self) -> list[Unread]:
        self.store.refresh()
        return renames.unread(self.store, self.plan)

    def let_go(self, records: Sequence[Found]) -> None:
        try:
            renames.let_go(self.store, records)
        except sqlite3.Error as exc:
            raise BrokerUnavailable(self.store.explain(exc)) from exc

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Inside, topics and positions are read as they were at one moment: a run that moves on
        meanwhile is not taken for finished because each topic was read just before or after it."""
        with self._one_at_a_time:
            self.store.forget_positions()
            self.store.read_db.execute("begin")
            try:
                yield
            finally:
                self.store.read_db.execute("commit")

    # -- how it is

    def check(self) -> tuple[bool, str]:
        path = self.settings.database
        try:
            (found,) = self.store.read_db.execute("pragma quick_check(1)").fetchone()
        except PenstockError as exc:
            return False, exc.message
        except sqlite3.DatabaseError as exc:
            found = str(exc)
        if found != "ok":
            return False, damaged(path, Exception(found))
        runs = "a worker is running" if self.worker_running() else "no worker is running"
        size = sum(file.stat().st_size for file in path.parent.glob(path.name + "*"))
        return True, f"{path}, {size / 1e6:.1f} MB; {runs}"

    def close(self) -> None:
        self.store.close()
