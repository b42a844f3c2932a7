"""The records of the journal's topic on Kafka, and what they hold together.

Keys begin with what a record is. A recorded answer: `c|STAGE/EVENT/CALL`. A stretch of finished
offsets: `p|STAGE|TOPIC|OWNER`. Ids of finished events: `i|STAGE|OWNER|NUMBER`. A run that began:
`b|EVENT`. A worker that has the partition: `o|OWNER`. An event that may have been in flight at a
crash, and is again: `m|STAGE|TOPIC|OFFSET`. A record without a value deletes.
"""

import collections
import dataclasses
from typing import Any

import msgspec

from penstock.broker.kafka.progress import Stretch

#: What a key on the topic begins with: a recorded answer, a stretch of finished offsets, ids of
#: finished events, a run that began, a worker, an event under suspicion.
CALL, STRETCH, IDS, BEGUN, OWNER, MARK = b"c|", b"p|", b"i|", b"b|", b"o|", b"m|"
#: A longer id is known by its beginning and its length: it is nobody's but a stranger's.
ID_CHARS = 64

_stretch = msgspec.json.Decoder(Stretch)
_ids = msgspec.json.Decoder(tuple[float, list[str]])
#: When a run began, in seconds since 1970 UTC; None for a seed, which is known for ever.
_begun = msgspec.json.Decoder(float | None)


class Mark(msgspec.Struct, array_like=True, frozen=True):
    """How often an event's step began and did not end: with others in flight, and alone."""

    together: int
    alone: int


_mark = msgspec.json.Decoder(Mark)


class _Id(msgspec.Struct):
    id: str
    replay: int = 0


_id = msgspec.json.Decoder(_Id)


def journal_of(app_id: str) -> str:
    """The name of an app's journal topic."""
    return f"{app_id}-journal"


def id_of(message: Any) -> str:
    """The id of the event in `message`, or for a record that is no event, its place."""
    try:
        read = _id.decode(message.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return f"{message.topic}-{message.partition}-{message.offset}"
    id_ = read.id if len(read.id) <= ID_CHARS else f"{read.id[:ID_CHARS]}+{len(read.id)}"
    return f"{id_}~{read.replay}" if read.replay else id_


class Known:
    """The ids that one stage has finished in one partition, with the records that hold them."""

    __slots__ = ("ids", "records")

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.records: collections.deque[tuple[float, bytes, list[str]]] = collections.deque()

    def add(self, at: float, key: bytes, ids: list[str]) -> None:
        self.ids.update(ids)
        self.records.append((at, key, ids))

    def expired(self, before: float) -> list[bytes]:
        """The keys of the records from before `before`, forgotten here."""
        gone = []
        while self.records and self.records[0][0] < before:
            _, key, ids = self.records.popleft()
            self.ids.difference_update(ids)
            gone.append(key)
        return gone


@dataclasses.dataclass
class Part:
    """What the journal holds of one partition: recorded answers by step, and what was read of the
    stages' progress, of runs that began, of who has it and of what is suspected."""

    calls: dict[bytes, dict[bytes, bytes]] = dataclasses.field(default_factory=dict)
    known: dict[str, Known] = dataclasses.field(default_factory=dict)
    stretches: dict[tuple[str, str], dict[bytes, Stretch]] = dataclasses.field(default_factory=dict)
    begun: dict[bytes, float | None] = dataclasses.field(default_factory=dict)
    owners: set[bytes] = dataclasses.field(default_factory=set)
    marks: dict[bytes, Mark] = dataclasses.field(default_factory=dict)

    def take(self, key: bytes, value: bytes | None) -> None:
        """A record of the topic, in its turn."""
        kind, rest = key[:2], key[2:]
        if kind == CALL:
            calls = self.calls.setdefault(step_of(key), {})
            if value is None:
                calls.pop(key, None)
                if not calls:
                    del self.calls[step_of(key)]
            else:
                calls[key] = value
        elif kind == STRETCH:
            stage, topic, _ = rest.decode().split("|")
            found = self.stretches.setdefault((stage, topic), {})
            if value is None:
                found.pop(key, None)
            else:
                found[key] = _stretch.decode(value)
        elif kind == IDS:
            stage = rest.decode().split("|")[0]
            known = self.known.setdefault(stage, Known())
            if value is None:
                _forget(known, key)
            else:
                known.add(*_with_key(key, value))
        elif kind == BEGUN:
            if value is None:
                self.begun.pop(key, None)
            else:
                self.begun[key] = _begun.decode(value)
        elif kind == OWNER:
            if value is None:
                self.owners.discard(key)
            else:
                self.owners.add(key)
        elif kind == MARK:
            if value is None:
                self.marks.pop(key, None)
            else:
                self.marks[key] = _mark.decode(value)


def _with_key(key: bytes, value: bytes) -> tuple[float, bytes, list[str]]:
    at, ids = _ids.decode(value)
    return at, key, ids


def _forget(known: Known, key: bytes) -> None:
    for record in known.records:
        if record[1] == key:
            known.ids.difference_update(record[2])
            known.records.remove(record)
            return


def step_of(key: bytes) -> bytes:
    """The step of a recorded answer: `STAGE/EVENT` of `c|STAGE/EVENT/CALL`."""
    return key[2 : key.rindex(b"/")]
