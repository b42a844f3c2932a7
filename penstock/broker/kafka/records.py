"""The records of the journal's topic on Kafka, and their state by partition.

A key begins with the kind of its record. A record without a value deletes:

    c|STAGE/EVENT/CALL         a recorded answer
    p|STAGE|TOPIC|OWNER        a stretch of finished offsets
    i|STAGE|OWNER|NUMBER       ids of finished events
    f|STAGE|OWNER|NUMBER       ids of finished events that began a run, and the run's content
    b|EVENT                    a run that a worker began
    o|OWNER                    a worker that has the partition
    m|STAGE|TOPIC|OFFSET       an event that is in flight, and may have been so at a crash
    r|STAGE|TOPIC              a stage that reads the topic, or did before a chain was edited
    t|TOPIC                    the id of the topic that offsets are of
"""

import collections
import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from penstock.broker.kafka.progress import Stretch
from penstock.record.events import Id

log = logging.getLogger(__name__)

#: The kinds, in this order: a recorded answer, a stretch of finished offsets, ids of finished
#: events, ids of finished first events, a run that a worker began, a worker, a suspect, a stage, a
#: topic.
CALL, STRETCH, IDS, FIRSTS, BEGUN, OWNER, MARK = b"c|", b"p|", b"i|", b"f|", b"b|", b"o|", b"m|"
READER, TOPIC = b"r|", b"t|"

_encode = msgspec.json.Encoder().encode
_stretch = msgspec.json.Decoder(Stretch)
_ids = msgspec.json.Decoder(tuple[float, list[str]])
_firsts = msgspec.json.Decoder(tuple[float, dict[str, str]])


class Begun(msgspec.Struct, array_like=True, frozen=True):
    """When a worker began a run, in seconds since 1970 UTC (None for a seed, which is known for
    ever), and the run's content ("" where that is not known)."""

    at: float | None
    content: str = ""


#: Earlier versions wrote the time alone.
_begun = msgspec.json.Decoder(Begun | float | None)


class Mark(msgspec.Struct, array_like=True, frozen=True):
    """The workers in which an event's step has begun and not ended, in their order, and how often
    it was alone in one. All but the last are dead; that one is, when another reads it. A number is
    how many they were, from before their names were kept."""

    workers: tuple[str, ...] | int
    alone: int


_mark = msgspec.json.Decoder(Mark)


class _Id(msgspec.Struct):
    """What tells an event from a plain record, which may have an id of its own."""

    id: Id
    trace_id: str
    parts: msgspec.Raw
    replay: int = 0
    parent_id: str | None = None


_id = msgspec.json.Decoder(_Id)


def journal_of(app_id: str) -> str:
    """Return the name of an app's journal topic."""
    return f"{app_id}-journal"


def id_of(message: Any) -> str:
    """Return the id of the event in `message`, or the position of a record that is no event."""
    return identify(message)[0]


def identify(message: Any) -> tuple[str, bool]:
    """Return `id_of(message)` and whether the event begins a run."""
    try:
        read = _id.decode(message.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return f"{message.topic}-{message.partition}-{message.offset}", False
    if read.replay:
        return f"{read.id}~{read.replay}", False
    return read.id, read.parent_id is None


#: When each record was written, its key, its ids; the oldest first.
Records = collections.deque[tuple[float, bytes, tuple[str, ...]]]


class Known:
    """The ids of events that one stage has finished in one partition, and the records of them.

    `ids` maps that of a first event to its run's content, others to None. First events are known
    for as long as their runs are kept, others for an hour, so they are in records of their own.
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
        """Forget ids from before `before_s` (seconds since 1970), but not those of first events.
        Returns the keys of their records, to be deleted."""
        return self._forget(self.others, before_s)

    def retire(self, before_s: float) -> list[bytes]:
        """Do the same for those of first events."""
        return self._forget(self.firsts, before_s)

    def _forget(self, records: Records, before_s: float) -> list[bytes]:
        gone = []
        while records and records[0][0] < before_s:
            _, key, ids = records.popleft()
            self._pop(ids)
            gone.append(key)
        return gone

    def drop(self, key: bytes) -> None:
        """Forget the ids of the record `key`, which was deleted."""
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
    """The state of one partition of the journal: recorded answers by step, the stages' progress,
    the runs that began, the workers that have the partition, the suspects, the topics' ids."""

    calls: dict[bytes, dict[bytes, bytes]] = dataclasses.field(default_factory=dict)
    known: dict[str, Known] = dataclasses.field(default_factory=dict)
    stretches: dict[tuple[str, str], dict[bytes, Stretch]] = dataclasses.field(default_factory=dict)
    begun: dict[bytes, Begun] = dataclasses.field(default_factory=dict)
    owners: set[bytes] = dataclasses.field(default_factory=set)
    marks: dict[bytes, Mark] = dataclasses.field(default_factory=dict)
    #: The stages that read each topic, or did once.
    readers: dict[str, dict[str, None]] = dataclasses.field(default_factory=dict)
    #: The ids of the topics that offsets are of.
    topics: dict[str, str] = dataclasses.field(default_factory=dict)

    def known_readers(self) -> dict[str, list[str]]:
        """Return the stages that read each topic, or did once. Journals of earlier versions say so
        of those only that have finished something."""
        known = {topic: dict(names) for topic, names in self.readers.items()}
        for stage, topic in self.stretches:
            known.setdefault(topic, {})[stage] = None
        return {topic: list(names) for topic, names in known.items() if names}

    def is_other(self, topic: str, id_: str) -> bool:
        """Return whether the offsets that are known are of another topic than that with `id_`,
        which has its name now; False where the broker knows no ids."""
        return bool(id_) and self.topics.get(topic, id_) != id_

    def forget(self, topic: str) -> list[bytes]:
        """Forget all offsets of `topic`. Returns the keys of their records, to be deleted."""
        gone = [key for key in self.marks if key[len(MARK) :].decode().split("|")[1] == topic]
        for key in gone:
            del self.marks[key]
        for at in [at for at in self.stretches if at[1] == topic]:
            gone += self.stretches.pop(at)
        return gone

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield what the partition holds by now, as records."""
        for calls in self.calls.values():
            yield from calls.items()
        for stretches in self.stretches.values():
            for key, stretch in stretches.items():
                yield key, _encode(stretch)
        for known in self.known.values():
            for at, key, ids in known.others:
                yield key, _encode((at, ids))
            for at, key, ids in known.firsts:
                yield key, _encode((at, {id_: known.ids.get(id_) or "" for id_ in ids}))
        for key, begun in self.begun.items():
            yield key, _encode(begun)
        for key, mark in self.marks.items():
            yield key, _encode(mark)
        for topic, names in self.readers.items():
            for name in names:
                yield reader_key(name, topic), b"1"
        for topic, id_ in self.topics.items():
            yield TOPIC + topic.encode(), id_.encode()

    def begun_with(self, id_: str) -> str | None:
        """Return the content of the run that began with the event `id_`, "" where the content is
        not known; None when no worker began such a run and no stage has finished such an event."""
        begun = self.begun.get(BEGUN + id_.encode())
        if begun is not None:
            return begun.content
        for known in self.known.values():
            if id_ in known.ids:
                return known.ids[id_] or ""
        return None

    def take(self, key: bytes, value: bytes | None) -> None:
        """Apply a record of the topic. Records must come in the order of their offsets. One that is
        none of ours is said and left out."""
        try:
            self._take(key, value)
        except (ValueError, msgspec.DecodeError) as exc:
            log.warning("A record of the journal is none of ours and is left out: %r: %s", key, exc)

    def _take(self, key: bytes, value: bytes | None) -> None:
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
                if not found:
                    del self.stretches[stage, topic]
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
        elif kind == READER:
            stage, topic = rest.decode().split("|")
            readers = self.readers.setdefault(topic, {})
            if value is None:
                readers.pop(stage, None)
            else:
                readers[stage] = None
        elif kind == MARK:
            if value is None:
                self.marks.pop(key, None)
            else:
                self.marks[key] = _mark.decode(value)
        elif kind == TOPIC and value is not None:
            self.topics[rest.decode()] = value.decode()


def reader_key(stage: str, topic: str) -> bytes:
    return READER + f"{stage}|{topic}".encode()


def stretch_key(stage: str, topic: str, owner: str) -> bytes:
    return STRETCH + f"{stage}|{topic}|{owner}".encode()


def step_of(key: bytes) -> bytes:
    """Return the step of a recorded answer: `STAGE/EVENT` of `c|STAGE/EVENT/CALL`."""
    return key[2 : key.rindex(b"/")]
