"""The records of the journal's topic on Kafka, and what they hold together.

Keys begin with what a record is, and a record without a value deletes:

    c|STAGE/EVENT/CALL         a recorded answer
    p|STAGE|TOPIC|OWNER        a stretch of finished offsets
    i|STAGE|OWNER|NUMBER       ids of finished events
    f|STAGE|OWNER|NUMBER       ids of finished events that began a run, and its content
    b|EVENT                    a run that a worker began
    o|OWNER                    a worker that has the partition
    m|STAGE|TOPIC|OFFSET       an event that may have been in flight at a crash, and is again
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from penstock.broker.kafka.progress import Stretch

#: What a key on the topic begins with: a recorded answer, a stretch of finished offsets, ids of
#: finished events, ids of finished first events, a run that began, a worker, an event under
#: suspicion.
CALL, STRETCH, IDS, FIRSTS, BEGUN, OWNER, MARK = b"c|", b"p|", b"i|", b"f|", b"b|", b"o|", b"m|"
#: A longer id is known by its beginning and its length: it is nobody's but a stranger's.
ID_CHARS = 64

_stretch = msgspec.json.Decoder(Stretch)
_ids = msgspec.json.Decoder(tuple[float, list[str]])
_firsts = msgspec.json.Decoder(tuple[float, dict[str, str]])


class Begun(msgspec.Struct, array_like=True, frozen=True):
    """When a worker began a run, in seconds since 1970 UTC, None for a seed, which is known for
    ever; and its content, "" where that is not known."""

    at: float | None
    content: str = ""


#: Records of before have the time alone.
_begun = msgspec.json.Decoder(Begun | float | None)


class Mark(msgspec.Struct, array_like=True, frozen=True):
    """How often an event's step began and did not end: with others in flight, and alone."""

    together: int
    alone: int


_mark = msgspec.json.Decoder(Mark)


class _Id(msgspec.Struct):
    id: str
    replay: int = 0
    parent_id: str | None = None


_id = msgspec.json.Decoder(_Id)


def journal_of(app_id: str) -> str:
    """The name of an app's journal topic."""
    return f"{app_id}-journal"


def id_of(message: Any) -> str:
    """The id of the event in `message`, or for a record that is no event, where it stands."""
    return identify(message)[0]


def identify(message: Any) -> tuple[str, bool]:
    """`id_of`, and whether the event begins a run."""
    try:
        read = _id.decode(message.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return f"{message.topic}-{message.partition}-{message.offset}", False
    id_ = read.id if len(read.id) <= ID_CHARS else f"{read.id[:ID_CHARS]}+{len(read.id)}"
    if read.replay:
        return f"{id_}~{read.replay}", False
    return id_, read.parent_id is None


#: When each was written, its key, its ids; the oldest first.
Records = collections.deque[tuple[float, bytes, tuple[str, ...]]]


class Known:
    """The ids that one stage has finished in one partition, with the records that hold them.

    Those of first events have the content of their run, others None. The two kinds are forgotten
    at different ages, so they stand in different records.
    """

    __slots__ = ("firsts", "ids", "others")

    def __init__(self) -> None:
        self.ids: dict[str, str | None] = {}
        self.firsts: Records = collections.deque()
        self.others: Records = collections.deque()

    def add(self, at: float, key: bytes, ids: Mapping[str, str | None]) -> None:
        self.ids.update(ids)
        records = self.firsts if key.startswith(FIRSTS) else self.others
        records.append((at, key, tuple(ids)))

    def expire(self, before_s: float) -> list[bytes]:
        """What is from before `before_s` (seconds since 1970) and began no run is forgotten; the
        keys of its records."""
        return self._forget(self.others, before_s)

    def retire(self, before_s: float) -> list[bytes]:
        """The same for what began a run."""
        return self._forget(self.firsts, before_s)

    def _forget(self, records: Records, before_s: float) -> list[bytes]:
        gone = []
        while records and records[0][0] < before_s:
            _, key, ids = records.popleft()
            self._pop(ids)
            gone.append(key)
        return gone

    def drop(self, key: bytes) -> None:
        """The record `key` is gone from the topic."""
        records = self.firsts if key.startswith(FIRSTS) else self.others
        for record in records:
            if record[1] == key:
                self._pop(record[2])
                records.remove(record)
                return

    def _pop(self, ids: Sequence[str]) -> None:
        for id_ in ids:
            self.ids.pop(id_, None)


@dataclasses.dataclass
class Part:
    """What the journal holds of one partition: recorded answers by step, and what was read of the
    stages' progress, of runs that began, of who has it and of what is suspected."""

    calls: dict[bytes, dict[bytes, bytes]] = dataclasses.field(default_factory=dict)
    known: dict[str, Known] = dataclasses.field(default_factory=dict)
    stretches: dict[tuple[str, str], dict[bytes, Stretch]] = dataclasses.field(default_factory=dict)
    begun: dict[bytes, Begun] = dataclasses.field(default_factory=dict)
    owners: set[bytes] = dataclasses.field(default_factory=set)
    marks: dict[bytes, Mark] = dataclasses.field(default_factory=dict)

    def begun_with(self, id_: str) -> str | None:
        """The content of the run that the event `id_` began, as far as a worker began it or a
        stage has finished the event; "" where that is not known. None when it began none."""
        begun = self.begun.get(BEGUN + id_.encode())
        if begun is not None:
            return begun.content
        for known in self.known.values():
            if id_ in known.ids:
                return known.ids[id_] or ""
        return None

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
        elif kind in (IDS, FIRSTS):
            stage = rest.decode().split("|")[0]
            known = self.known.setdefault(stage, Known())
            if value is None:
                known.drop(key)
            elif kind == FIRSTS:
                at, contents = _firsts.decode(value)
                known.add(at, key, contents)
            else:
                at, ids = _ids.decode(value)
                known.add(at, key, dict.fromkeys(ids))
        elif kind == BEGUN:
            if value is None:
                self.begun.pop(key, None)
            else:
                begun = _begun.decode(value)
                self.begun[key] = begun if isinstance(begun, Begun) else Begun(begun)
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


def step_of(key: bytes) -> bytes:
    """The step of a recorded answer: `STAGE/EVENT` of `c|STAGE/EVENT/CALL`."""
    return key[2 : key.rindex(b"/")]
