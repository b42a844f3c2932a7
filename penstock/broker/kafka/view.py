"""The view of Kafka's topics in a process that is no worker: records by run, and what is done."""

from collections.abc import Collection, Iterable, Mapping

from penstock.broker.contract import Found
from penstock.broker.kafka.records import CALL, READER, Part, id_of
from penstock.broker.tp import TP


class View:
    """What was read so far: the records of `topics` by their keys, and the journal.

    An event that a crash has left twice on a topic is found once. The topics in `repeated` are
    excepted: there a record is written again when it changes.
    """

    def __init__(self, topics: Iterable[str], repeated: Collection[str] = ()) -> None:
        self._found: dict[str, dict[bytes, list[Found]]] = {topic: {} for topic in topics}
        self._repeated = repeated
        self._ids: set[tuple[str, str]] = set()
        self._committed: dict[TP, int] = {}
        self._topics: dict[str, str] = {}
        self._parts: dict[int, Part] = {}
        self._untaken: list[tuple[int, bytes, bytes | None]] = []
        #: How many records were added.
        self.count = 0

    def add(self, record: Found) -> None:
        """Add a record of a topic. Records must come in the order of their offsets."""
        self.count += 1
        id_ = (record.topic, id_of(record))
        if id_ not in self._ids or record.topic in self._repeated:
            self._ids.add(id_)
            self._found.setdefault(record.topic, {}).setdefault(record.key, []).append(record)

    def add_mark(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Add a record of the journal. It counts from the next `take_over` on."""
        self.count += 1
        if key.startswith(READER):
            self._parts.setdefault(partition, Part()).take(key, value)  # it calls nothing done
        elif not key.startswith(CALL):
            self._untaken.append((partition, key, value))

    def known_readers(self) -> dict[str, list[str]]:
        """Return the stages that read each topic, or did before a chain was edited."""
        known: dict[str, dict[str, None]] = {}
        for part in self._parts.values():
            for topic, names in part.known_readers().items():
                known.setdefault(topic, {}).update(dict.fromkeys(names))
        return {topic: list(names) for topic, names in known.items()}

    def held_back(self) -> list[tuple[int, bytes, bytes | None]]:
        """Return the journal's records that were added since the last call, for `take_over`."""
        marks, self._untaken = self._untaken, []
        return marks

    def take_over(
        self,
        marks: Iterable[tuple[int, bytes, bytes | None]],
        committed: Mapping[TP, int],
        topics: Mapping[str, str],
    ) -> None:
        """Apply the journal's records, the group's commits and the ids of the topics. Everything
        that was on the topics before them must have been added by now: a step's mark is written
        after its outputs, so otherwise a run could seem to be over because its outputs are missing
        here."""
        for partition, key, value in marks:
            self._parts.setdefault(partition, Part()).take(key, value)
        self._committed = dict(committed)
        self._topics = dict(topics)

    def find(self, topic: str, key: bytes | None, start: int = 0) -> list[Found]:
        by_key = self._found.get(topic, {})
        keys = by_key if key is None else [key] if key in by_key else []
        return [found for one in keys for found in by_key[one] if found.offset >= start]

    def is_done(self, stage: str, record: Found) -> bool:
        part = self._parts.get(record.partition, Part())
        # Positions in a topic that was deleted say nothing about the one that has its name now.
        if not part.is_other(record.topic, self._topics.get(record.topic, "")):
            if record.offset < self._committed.get(TP(record.topic, record.partition), 0):
                return True
            stretches = part.stretches.get((stage, record.topic), {}).values()
            if any(one.is_done(record.offset) for one in stretches):
                return True
        return stage in part.known and id_of(record) in part.known[stage].ids
