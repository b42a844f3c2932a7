"""The topics of one embedded file, their partitions, and which of them a key is in."""

import pathlib
import sqlite3

from penstock.broker.embedded.file import connect, explain
from penstock.broker.embedded.writer import Writer
from penstock.broker.partitioner import partition_of_key
from penstock.broker.tp import TP
from penstock.errors import BrokerUnavailable


class Topics:
    """An embedded file that is open, and what its topics are."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.writer = Writer(connect(path))
        self.reader = connect(path)
        self._partitions: dict[str, int] = {}
        self._parts: dict[TP, int] = {}
        self._names: dict[int, TP] = {}

    def partitions(self, topic: str) -> int | None:
        count = self._partitions.get(topic)
        if count is None:
            row = self.reader.execute(
                "select partitions from topic where name = ?", (topic,)
            ).fetchone()
            if row is None:
                return None
            count = self._partitions[topic] = int(row[0])
        return count

    def topics(self) -> dict[str, int]:
        """Every topic of the file and its number of partitions."""
        return dict(self.reader.execute("select name, partitions from topic order by name"))

    def create(self, topic: str, partitions: int) -> None:
        """`topic` is there; one that is there already keeps its partitions."""
        if self.partitions(topic) is not None:
            return

        def job(db: sqlite3.Connection) -> None:
            db.execute("insert or ignore into topic values (?, ?)", (topic, partitions))
            db.executemany(
                "insert or ignore into part (topic, part) values (?, ?)",
                [(topic, part) for part in range(partitions)],
            )

        try:
            self.writer.run(job)
        except sqlite3.Error as exc:
            raise BrokerUnavailable(self.explain(exc)) from exc

    def part(self, tp: TP) -> int:
        """The number under which the file keeps a partition."""
        number = self._parts.get(tp)
        if number is None:
            row = self.reader.execute(
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
        """The partition of `key`, chosen as Kafka's default partitioner does."""
        count = self.partitions(topic)
        if count is None:
            raise BrokerUnavailable(f"{self.path}: there is no topic '{topic}'")
        return 0 if key is None else partition_of_key(key, count)

    def explain(self, error: Exception) -> str:
        """What to tell a person of an error of the file's."""
        return explain(self.path, error)
