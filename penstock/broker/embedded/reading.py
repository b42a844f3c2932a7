"""Reading topics from outside the worker: whole runs, for people and programs, off the hot path."""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from penstock.broker.embedded.file import SHIFT
from penstock.broker.embedded.store import Store
from penstock.broker.tp import TP

#: The partition of all events of a topic that one worker of the cluster reads.
ONE_WORKER = 0


@dataclasses.dataclass(frozen=True)
class Found:
    """A record as it stands on its topic; `ts` is in milliseconds since 1970 UTC."""

    topic: str
    partition: int
    offset: int
    ts: int
    key: bytes
    value: bytes


class Reader(Protocol):
    """What a client needs of a broker."""

    def worker_running(self) -> bool: ...

    def version(self) -> int: ...

    def find(self, topic: str, key: bytes | None, start: int = 0) -> list[Found]: ...

    def unfinished(self, reader: str, topic: str) -> int: ...

    def is_done(self, reader: str, record: Found) -> bool: ...

    def snapshot(self) -> AbstractContextManager[None]: ...

    def close(self) -> None: ...


class EmbeddedReader:
    """Reads the embedded broker's file beside its worker."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._one_at_a_time = threading.Lock()

    def worker_running(self) -> bool:
        return self.store.lock.is_held()

    def version(self) -> int:
        """Changes whenever something was committed."""
        return self.store.version()

    def find(self, topic: str, key: bytes | None, start: int = 0) -> list[Found]:
        """The records of `key` on `topic` from offset `start` on; with no key, all of them."""
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
            rows = self.store.reader.execute(
                "select id - ?, ts, key, value from record where id >= ? and id < ?"
                + ("" if key is None else " and key = ?"),
                (base, base + start, base + (1 << SHIFT), *(() if key is None else (key,))),
            )
            found += [Found(topic, partition, *row) for row in rows]
        return found

    def unfinished(self, reader: str, topic: str) -> int:
        """How many records of `topic` its reader has not finished: what is in flight counts."""
        self.store.forget_positions()
        self.store.refresh()
        count = 0
        for partition in range(self.store.partitions(topic) or 0):
            tp = TP(topic, partition)
            count += self.store.position(reader, tp).unfinished(self.store.end(tp))
        return count

    def is_done(self, reader: str, record: Found) -> bool:
        tp = TP(record.topic, record.partition)
        return self.store.position(reader, tp).is_done(record.offset)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Inside, topics and positions are read as they stood at one moment: a run that moves on
        meanwhile is not taken for finished because it was on none of the topics when each was
        looked at."""
        with self._one_at_a_time:
            self.store.forget_positions()
            self.store.reader.execute("begin")
            try:
                yield
            finally:
                self.store.reader.execute("commit")

    def close(self) -> None:
        self.store.close()
