"""What stands on Kafka's topics, as far as it was read: records by run, and what is finished."""

from collections.abc import Collection, Iterable, Mapping

from penstock.broker.contract import Found
from penstock.broker.kafka.records import CALL, Part, id_of
from penstock.broker.tp import TP


class View:
    """Records of `topics`, found by their keys, and the journal's marks of what is finished.

    An event that is there twice, as a crash can leave it, is found once; not on `repeated`, where a
    record is written again when it changes.
    """

    def __init__(self, topics: Iterable[str], repeated: Collection[str] = ()) -> None:
        self._found: dict[str, dict[bytes, list[Found]]] = {topic: {} for topic in topics}
        self._repeated = repeated
        self._ids: set[tuple[str, str]] = set()
        self._committed: dict[TP, int] = {}
        self._parts: dict[int, Part] = {}
        self._coming: list[tuple[int, bytes, bytes | None]] = []
        #: How much was added; changes with every record.
        self.count = 0

    def add(self, record: Found) -> None:
        """A record of a topic, in its turn."""
        self.count += 1
        id_ = (record.topic, id_of(record))
        if id_ not in self._ids or record.topic in self._repeated:
            self._ids.add(id_)
            self._found[record.topic].setdefault(record.key, []).append(record)

    def add_mark(self, partition: int, key: bytes, value: bytes | None) -> None:
        """A record of the journal, in its turn. It counts from the next `take_over` on."""
        self.count += 1
        if not key.startswith(CALL):
            self._coming.append((partition, key, value))

    def held_back(self) -> list[tuple[int, bytes, bytes | None]]:
        """The marks that were added since this was called before."""
        marks, self._coming = self._coming, []
        return marks

    def take_over(
        self,
        marks: Iterable[tuple[int, bytes, bytes | None]],
        committed: Mapping[TP, int],
    ) -> None:
        """What the marks and the group's commits call finished is finished. The records that stood
        on the topics before them must have been added: a step's mark comes after its outputs, so no
        run is found that seems to be over because they are missing."""
        for partition, key, value in marks:
            self._parts.setdefault(partition, Part()).take(key, value)
        self._committed = dict(committed)

    def find(self, topic: str, key: bytes | None, start: int = 0) -> list[Found]:
        by_key = self._found[topic]
        keys = by_key if key is None else [key] if key in by_key else []
        return [found for one in keys for found in by_key[one] if found.offset >= start]

    def is_done(self, reader: str, record: Found) -> bool:
        if record.offset < self._committed.get(TP(record.topic, record.partition), 0):
            return True
        part = self._parts.get(record.partition, Part())
        stretches = part.stretches.get((reader, record.topic), {}).values()
        if any(one.is_done(record.offset) for one in stretches):
            return True
        return reader in part.known and id_of(record) in part.known[reader].ids
