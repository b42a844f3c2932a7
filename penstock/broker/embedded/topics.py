"""The topics of one embedded file, their partitions, and the partition of a key."""

import pathlib
import sqlite3
from collections.abc import Sequence

from penstock.broker.embedded.file import connect, explain
from penstock.broker.embedded.writer import Writer
from penstock.broker.partitioner import partition_of_key
from penstock.broker.tp import TP
from penstock.errors import BrokerUnavailable


class Topics:
    """An open embedded file and its topics."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.writer = Writer(connect(path))
        self.read_db = connect(path)
        self._partitions: dict[str, int] = {}
        self._parts: dict[TP, int] = {}
        self._names: dict[int, TP] = {}

    def partitions(self, topic: str) -> int | None:
        count = self._partitions.get(topic)
        if count is None:
            row = self.read_db.execute(
                "select partitions from topic where name = ?", (topic,)
            ).fetchone()
            if row is None:
                return None
            count = self._partitions[topic] = int(row[0])
        return count

    def topics(self) -> dict[str, int]:
        """Return every topic of the file with its number of partitions."""
        return dict(self.read_db.execute("select name, partitions from topic order by name"))

    def create(self, topic: str, partitions: int, readers: Sequence[str] = ()) -> None:
        """Make `topic`, unless it exists; then it keeps its partitions. `readers` have finished
        nothing of it: what is appended before any worker is there waits for them by name."""
        if self.partitions(topic) is not None:
            return

        def job(db: sqlite3.Connection) -> None:
            db.execute("insert or ignore into topic values (?, ?)", (topic, partitions))
            db.executemany(
                "insert or ignore into part (topic, part) values (?, ?)",
                [(topic, part) for part in range(partitions)],
            )
            db.executemany(
                "insert or ignore into position select ?, id, 0, x'' from part where topic = ?",
                [(reader, topic) for reader in readers],
            )

        try:
            self.writer.run(job)
        except sqlite3.Error as exc:
            raise BrokerUnavailable(self.explain(exc)) from exc

    def part(self, tp: TP) -> int:
        """Return the number of a partition in the file."""
        number = self._parts.get(tp)
        if number is None:
            row = self.read_db.execute(
                "select id from part where topic = ? and part = ?", (tp.topic, tp.partition)
            ).fetchone()
            if row is None:
                raise BrokerUnavailable(
                    f"{self.path}: there is no partition {tp.partition} of a topic '{tp.topic}'"
                )
            number = self._parts[tp] = int(row[0])
            self._names[number] = tp
        return number

    def partition_of(self, topic: str, key: bytes | None) -> int:
        """Return the partition of `key`, chosen as Kafka's default partitioner does."""
        count = self.partitions(topic)
        if count is None:
            raise BrokerUnavailable(f"{self.path}: there is no topic '{topic}'")
        return 0 if key is None else partition_of_key(key, count)

    def explain(self, error: Exception) -> str:
        """Return a sentence about an error of the file, and what to do."""
        return explain(self.path, error)
