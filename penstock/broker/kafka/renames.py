"""Renames on Kafka: where a stage begins that is new to a partition, when a chain was edited."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from penstock.broker import readers as edited
from penstock.broker.kafka.records import (
    CALL,
    FIRSTS,
    IDS,
    STRETCH,
    Part,
    reader_key,
)
from penstock.signals import StageJoined, StageLeft

#: A record of the journal: its key, and its value unless it deletes.
Row = tuple[bytes, bytes | None]


def introduce(
    part: Part, readers: Mapping[str, Sequence[str]]
) -> tuple[list[StageJoined | StageLeft], list[Row]]:
    """Make every stage of `readers` (by topic) one that reads its topic in `part`. Returns those
    that are new beside others or in their place, those that have left, and the records to be
    written, in their order."""
    known = part.known_readers()
    made = edited.joined(known, readers)
    gone = [StageLeft(name, topic) for topic, name in edited.left(known, readers)]
    rows: list[Row] = []
    for one in made:
        # Of several that are gone none is known to be the slowest: their calls are recalled, and
        # what one of them alone had finished is done again.
        if one.source is not None and len(one.replaces) < 2:
            rows += _progress_as(part, one.source, one.topic, one.name)
        for name in one.replaces:
            rows += _calls_as(part, name, one.name)
        rows.append((reader_key(one.name, one.topic), b"1"))
    former = dict.fromkeys((name, one.topic) for one in made for name in one.replaces)
    for name, topic in [*former, *((one.name, one.topic) for one in gone)]:
        rows += _without(part, name, topic)
    for row in rows:
        part.take(*row)
    return [*(one for one in made if one.source), *gone], rows


def _progress_as(part: Part, name: str, topic: str, new: str) -> Iterator[Row]:
    """Yield the records of what `name` has finished, as those of the stage `new`."""
    for key, stretch in part.stretches.get((name, topic), {}).items():
        yield _renamed(STRETCH, key, new), msgspec.json.encode(stretch)
    known = part.known.get(name)
    if known is None:
        return
    for at, key, ids in known.others:
        yield _renamed(IDS, key, new), msgspec.json.encode((at, ids))
    for at, key, ids in known.firsts:
        contents = {id_: known.ids.get(id_) or "" for id_ in ids}
        yield _renamed(FIRSTS, key, new), msgspec.json.encode((at, contents))


def _renamed(kind: bytes, key: bytes, new: str) -> bytes:
    return kind + new.encode() + key[key.index(b"|", len(kind)) :]


def _calls_as(part: Part, name: str, new: str) -> Iterator[Row]:
    for step, calls in part.calls.items():
        if step.startswith(name.encode() + b"/"):
            for key, answer in calls.items():
                yield CALL + new.encode() + key[len(CALL) + len(name) :], answer


def _without(part: Part, name: str, topic: str) -> Iterator[Row]:
    """Yield what deletes the records of a stage that is gone from `topic`."""
    for key in part.stretches.get((name, topic), ()):
        yield key, None
    known = part.known.get(name)
    for _, key, _ in [*known.others, *known.firsts] if known is not None else ():
        yield key, None
    for key, _ in _calls_as(part, name, name):
        yield key, None
    yield reader_key(name, topic), None
