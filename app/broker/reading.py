"""Reading topics from outside the worker: whole runs, for people and programs, off the hot path."""

import dataclasses

from faust.types import TP

from app.broker.database import SHIFT
from app.broker.store import Store


@dataclasses.dataclass(frozen=True)
class Found:
    """A record as it stands on its topic; `ts` is in milliseconds since 1970 UTC."""

    topic: str
    partition: int
    offset: int
    ts: int
    key: bytes
    value: bytes


class EmbeddedReader:
    """Reads the embedded broker's file beside its worker."""

    def __init__(self, store: Store) -> None:
        self.store = store

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

    def forget(self) -> None:
        """Positions are read from the file again."""
        self.store.forget_positions()

    def close(self) -> None:
        self.store.close()
