"""Retention: old finished runs are deleted from the embedded file, and nothing else."""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from penstock.broker.contract import Plan
from penstock.broker.embedded.file import SHIFT
from penstock.broker.embedded.store import Store
from penstock.broker.embedded.writer import read_end
from penstock.broker.tp import TP
from penstock.errors import MalformedEvent
from penstock.journal import CLAIMS, claimed_at
from penstock.record import steps
from penstock.record.events import load

#: Rows deleted in one transaction: the writer waits for so many, a few milliseconds.
ROWS = 1000


def delete_finished(
    store: Store, plan: Plan, before_s: float, gone: set[bytes] | None = None
) -> int:
    """Delete every record that is older than `before_s` (seconds since 1970) and whose run has
    nothing unfinished. Returns how many that were.

    Topics of no pipeline, the dead letters' among them, are left alone, except that of step records
    and that of cancelled runs: the keys of records that were deleted there are put into `gone`.
    That a run was begun is known for as long as anything of it is kept. Runs on the caller's
    thread, a few rows at a time.
    """
    cutoff = int(before_s * 1000)
    deleted = 0
    unfinished: set[bytes] = set()
    begun: set[str] = set()
    cancels = plan.cancels
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None, timeout=10)) as db:
        for pipeline in plan.pipelines:
            topics = {topic: plan.readers.get(topic, ()) for topic in pipeline.topics}
            known = [topic for topic in topics if store.partitions(topic)]
            for partition in range(max((store.partitions(t) or 0 for t in known), default=0)):
                busy = _unfinished_keys(db, store, topics, known, partition)
                unfinished |= busy
                begun |= _ids(db, store, known, partition, cutoff, busy)
                for topic in known:
                    deleted += _delete(db, store, store.part(TP(topic, partition)), cutoff, busy)
        for partition in range(store.partitions(cancels) or 0):
            part = store.part(TP(cancels, partition))
            deleted += _delete(db, store, part, cutoff, unfinished, gone)
        for partition in range(store.partitions(plan.steps) or 0):
            part = store.part(TP(plan.steps, partition))
            deleted += _delete(db, store, part, cutoff, unfinished, of_steps=True)
        rows = db.execute("select id from submission where ts < ? and not kept", (cutoff,))
        over = [row for row in rows.fetchall() if row[0].partition("|")[0] not in begun]
    for first in range(0, len(over), ROWS):
        _forget_submissions(store, over[first : first + ROWS])
    _forget_claims(store, before_s, unfinished)
    return deleted


def _forget_submissions(store: Store, rows: list[tuple[str]]) -> None:
    store.writer.run(lambda db: db.executemany("delete from submission where id = ?", rows))


def _forget_claims(store: Store, before_s: float, unfinished: set[bytes]) -> None:
    """Delete the old claims of runs that are over."""
    gone = [
        (step, key)
        for step, entries in list(store.entries.items())
        if step.startswith(CLAIMS) and step.removeprefix(CLAIMS).encode() not in unfinished
        for key, claim in list(entries.items())
        if claimed_at(claim) < before_s
    ]
    for step, _ in gone:
        store.entries.pop(step, None)
    if gone:
        keys = [(key,) for _, key in gone]
        store.writer.run(lambda db: db.executemany("delete from journal where key = ?", keys))


def _ids(
    db: sqlite3.Connection,
    store: Store,
    known: Sequence[str],
    partition: int,
    cutoff: int,
    busy: set[bytes],
) -> set[str]:
    """Return the ids of old events of runs that are not over, first events included."""
    if not busy:
        return set()
    found = set()
    for topic in known:
        base = store.part(TP(topic, partition)) << SHIFT
        rows = db.execute(
            "select key, value from record where id >= ? and id < ? and ts < ?",
            (base, base + (1 << SHIFT), cutoff),
        )
        for key, value in rows:
            if key in busy:
                with contextlib.suppress(MalformedEvent):
                    found.add(load(value).id)
    return found


def _unfinished_keys(
    db: sqlite3.Connection,
    store: Store,
    topics: Mapping[str, Sequence[str]],
    known: Sequence[str],
    partition: int,
) -> set[bytes]:
    """Return the keys of runs that some stage has not finished. Read from the file, where a step's
    outputs and its end become visible together."""
    keys: set[bytes] = set()
    db.execute("begin")  # one view of all topics: a run between two of them is not missed
    for topic in known:
        part = store.part(TP(topic, partition))
        base = part << SHIFT
        for reader in topics[topic]:
            position = store.stored_position(db, reader, part)
            rows = db.execute(
                "select id - ?, key from record where id >= ? and id < ?",
                (base, base + position.low, base + (1 << SHIFT)),
            )
            keys.update(key for offset, key in rows if not position.is_done(offset))
    db.execute("commit")
    return keys


def _delete(
    db: sqlite3.Connection,
    store: Store,
    part: int,
    cutoff: int,
    busy: set[bytes],
    gone: set[bytes] | None = None,
    *,
    of_steps: bool = False,
) -> int:
    """Delete the old records of runs that are not `busy`. One `of_steps` may be of several runs,
    and goes with the last."""
    base = part << SHIFT
    runs: Callable[[bytes], Collection[bytes]] = steps.runs_of if of_steps else lambda key: (key,)
    deleted, after = 0, base
    while True:
        rows = db.execute(
            f"select id, {'value' if of_steps else 'key'} from record"
            " where id >= ? and id < ? and ts < ? order by id limit ?",
            (after, base + (1 << SHIFT), cutoff, ROWS),
        ).fetchall()
        if not rows:
            return deleted
        after = rows[-1][0] + 1
        ids = [(id_,) for id_, of in rows if busy.isdisjoint(runs(of))]

        def job(writing: sqlite3.Connection, ids: list[tuple[int]] = ids) -> None:
            # Next offsets are stored, never derived from the records that are left: an offset
            # that was given out again would be taken for done.
            end = read_end(writing, part)
            writing.execute("update part set floor = max(floor, ?) where id = ?", (end, part))
            writing.executemany("delete from record where id = ?", ids)

        if ids:
            store.writer.run(job)
            deleted += len(ids)
            if gone is not None:
                gone.update(key for _, key in rows if key not in busy)
            time.sleep(0.005)  # let the hot path in between
