"""Renames: where a stage begins that is new to the file, and what waits for one that is gone."""

import sqlite3
from collections.abc import Mapping, Sequence

from penstock.broker import readers as edited
from penstock.broker.contract import Found, Plan, Unread
from penstock.broker.embedded.file import SHIFT
from penstock.broker.embedded.store import Store
from penstock.broker.embedded.writer import POSITION
from penstock.broker.tp import TP
from penstock.errors import MalformedEvent
from penstock.record.events import load
from penstock.signals import StageJoined, StageLeft


def known_readers(store: Store) -> dict[str, list[str]]:
    """Return the stages that have a position on each topic, the slowest first."""
    known: dict[str, list[str]] = {}
    rows = store.read_db.execute(
        "select topic, reader from position join part on part.id = position.part"
        " where reader != '' group by topic, reader order by sum(low), reader"
    )
    for topic, reader in rows:
        known.setdefault(topic, []).append(reader)
    return known


def introduce(store: Store, readers: Mapping[str, Sequence[str]]) -> list[StageJoined | StageLeft]:
    """Give every stage of `readers` (by topic) a position, in one transaction. Returns those that
    are new on topics with records, and where they begin, and those that have left a topic to
    others.

    Of several whose place a stage takes the slowest counts: a call may be paid for twice then, but
    nothing is lost.
    """
    known = known_readers(store)
    made = edited.joined(known, readers)
    gone = [
        StageLeft(name, topic, _unfinished(store, topic, name))
        for topic, name in edited.left(known, readers)
    ]
    if made or gone:

        def job(db: sqlite3.Connection) -> None:
            for one in made:
                _begin(db, one)
            for one in made:
                for name in one.replaces:
                    _retire(db, name, one.topic)
            for former in gone:
                _retire(db, former.name, former.topic)

        store.writer.run(job)
        store.forget_positions()
    return [*(one for one in made if one.source or _has_records(store, one.topic)), *gone]


def unread(store: Store, plan: Plan) -> list[Unread]:
    """Return what waits on topics that no stage of `plan` reads any more."""
    found = []
    for topic, names in plan.gone(known_readers(store)).items():
        counts = {name: _unfinished(store, topic, name) for name in names}
        waiting = tuple(sorted(name for name, count in counts.items() if count))
        if waiting:
            found.append(Unread(topic, waiting, max(counts.values())))
    return found


def let_go(store: Store, records: Sequence[Found]) -> None:
    """Finish `records` for every stage that has a position on their topics."""
    known = known_readers(store)

    def job(db: sqlite3.Connection) -> None:
        for record in records:
            part = store.part(TP(record.topic, record.partition))
            for name in known.get(record.topic, ()):
                position = store.stored_position(db, name, part)
                position.finish(record.offset)
                db.execute(POSITION, (name, part, *position.dump()))
                try:
                    step = f"{name}/{load(record.value).id}"
                except MalformedEvent:
                    continue  # nothing was ever recorded of it
                db.execute("delete from journal where key >= ? and key < ?", _below(step))

    store.writer.run(job)
    store.forget_positions()


def _has_records(store: Store, topic: str) -> bool:
    count = store.partitions(topic) or 0
    return any(store.end(TP(topic, partition)) for partition in range(count))


def _unfinished(store: Store, topic: str, name: str) -> int:
    count = 0
    for partition in range(store.partitions(topic) or 0):
        tp = TP(topic, partition)
        position = store.stored_position(store.read_db, name, store.part(tp))
        count += position.unfinished(store.end(tp))
    return count


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
            (one.name, len(name) + 1, *_below(name)),
        )


def _retire(db: sqlite3.Connection, name: str, topic: str) -> None:
    db.execute(
        "delete from position where reader = ? and part in (select id from part where topic = ?)",
        (name, topic),
    )
    db.execute("delete from journal where key >= ? and key < ?", _below(name))


def _below(name: str) -> tuple[str, str]:
    """Return the range of the journal keys of a stage, or of one of its steps: from 'NAME/' to
    before 'NAME0', as '0' follows '/'."""
    return f"{name}/", f"{name}0"
