"""Renames: where a stage begins that is new to the file, when a chain was edited."""

import sqlite3
from collections.abc import Mapping, Sequence

from penstock.broker.embedded.file import SHIFT
from penstock.broker.embedded.store import Store
from penstock.broker.tp import TP
from penstock.signals import StageJoined


def introduce(store: Store, readers: Mapping[str, Sequence[str]]) -> list[StageJoined]:
    """Give every stage of `readers` (by topic) a position, in one transaction. Returns those that
    are new on topics with records, and where they begin.

    An edited chain must not pay again for what it had finished. So a new stage takes over from
    those that are gone, with their recorded calls: it is one of them under another name. Where none
    is gone it begins where the others are, as on Kafka, where they share an offset. Of several the
    slowest counts: a call may be paid for twice then, but nothing is lost.
    """
    known: dict[str, list[str]] = {}
    rows = store.read_db.execute(
        "select topic, reader from position join part on part.id = position.part"
        " where reader != '' group by topic, reader order by sum(low), reader"
    )
    for topic, reader in rows:
        known.setdefault(topic, []).append(reader)
    made = []
    for topic, wanted in readers.items():
        there = known.get(topic, [])
        vanished = tuple(reader for reader in there if reader not in wanted)
        source = next(iter(vanished or there), None)
        new = [reader for reader in wanted if reader not in there]
        made += [StageJoined(reader, topic, source, vanished) for reader in new]
    if made:

        def job(db: sqlite3.Connection) -> None:
            for one in made:
                _begin(db, one)
            for one in made:
                _retire(db, one)

        store.writer.run(job)
        store.forget_positions()
    return [one for one in made if one.source or _has_records(store, one.topic)]


def _has_records(store: Store, topic: str) -> bool:
    count = store.partitions(topic) or 0
    return any(store.end(TP(topic, partition)) for partition in range(count))


def _begin(db: sqlite3.Connection, one: StageJoined) -> None:
    if one.source is None:
        # What retention has deleted is never finished, and marks above it would only grow.
        db.execute(
            "insert into position select ?, id, coalesce((select min(record.id) & ? from record"
            " where record.id >= part.id << ? and record.id < (part.id + 1) << ?), floor), x''"
            " from part where topic = ?",
            (one.name, (1 << SHIFT) - 1, SHIFT, SHIFT, one.topic),
        )
        return
    db.execute(
        "insert into position select ?, part, low, marks from position"
        " where reader = ? and part in (select id from part where topic = ?)",
        (one.name, one.source, one.topic),
    )
    for name in one.replaces:
        db.execute(
            "insert or ignore into journal select ? || substr(key, ?), value from journal"
            " where key >= ? and key < ?",
            (one.name, len(name) + 1, *_steps_of(name)),
        )


def _retire(db: sqlite3.Connection, one: StageJoined) -> None:
    for name in one.replaces:
        db.execute(
            "delete from position"
            " where reader = ? and part in (select id from part where topic = ?)",
            (name, one.topic),
        )
        db.execute("delete from journal where key >= ? and key < ?", _steps_of(name))


def _steps_of(reader: str) -> tuple[str, str]:
    """Return the range of the journal keys of its steps: from 'NAME/' to before 'NAME0', as '0'
    follows '/'."""
    return f"{reader}/", f"{reader}0"
