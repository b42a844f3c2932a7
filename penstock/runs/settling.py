"""The states and sums of runs, computed from what the index was filled with, and the forgetting of
what retention has deleted."""

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

from penstock.broker.contract import Broker, Found, Plan
from penstock.broker.tp import TP
from penstock.models import wrote_offline
from penstock.record import dead_letters, events
from penstock.record.dead_letters import REPLAYED
from penstock.runs.filling import LINE_CHARS, first_line, searched_text
from penstock.runs.index_file import (
    COLUMNS,
    SHIFT,
    EventRow,
    IndexFile,
    about,
    barred,
    note_about,
    rows_of,
    span,
    transaction,
    unpack,
)
from penstock.runs.runs import CANCELLED, DEAD, DONE, RUNNING

#: Runs whose state is computed in one transaction.
SETTLED_AT_ONCE = 1000
#: Runs that each look at what retention has deleted begins with.
LOOKED_AT_ONCE = 200
#: What is computed of a run, in the order of `_row`.
SETTLED = COLUMNS[2:-2]
SETTLE = f"update run set {', '.join(f'{name} = ?' for name in SETTLED)}, dirty = 0 where n = ?"
#: What they are where nothing is known.
_NOTHING: dict[str, Any] = dict.fromkeys(SETTLED, "") | dict.fromkeys(
    ("input_tokens", "output_tokens", "cost", "unpriced", "saved", "retries", "recalled"), 0
)


class StepRow(NamedTuple):
    """Of a step that has ended what its run is computed from."""

    event_id: str
    replay: int
    stage: str
    card: str | None
    ended: float
    retries: int
    recalled: int


class _UsedRow(NamedTuple):
    """What the calls of one model used in a step."""

    model: str
    input_tokens: int
    output_tokens: int
    cost: float
    unpriced: int
    saved: float


class _OfRun(NamedTuple):
    """A run as the tables have it."""

    number: int
    cancelled: int
    has_dead: int
    line: str
    events: list[EventRow]
    steps: list[StepRow]
    used: list[_UsedRow]


class Readers:
    """Who reads which topic, now or when something that is still on its way was written."""

    def __init__(self, file: IndexFile, plan: Plan, broker: Broker) -> None:
        self._file = file
        self._plan = plan
        self._broker = broker
        self._names = self._now()

    @property
    def topics(self) -> list[str]:
        return list(self._names)

    def _now(self) -> dict[str, list[str]]:
        return {topic: list(self._plan.readers.get(topic, ())) for topic in self._plan.topics}

    def note(self) -> None:
        """Note who reads which topic. When that has changed, so may every state."""
        db = self._file.open()
        known = json.loads(about(db, "readers") or "{}")
        now = self._now()
        # What was on its way when a chain was edited is not over.
        gone = {topic: sorted(names) for topic, names in self._broker.gone().items()}
        gone |= {topic: names for topic, names in known.items() if topic not in now}
        self._names = gone | now
        if self._names != known:
            note_about(db, "readers", json.dumps(self._names))
            db.execute("update run set dirty = 1")

    def waits(self, event: EventRow, finished: Set[tuple[str, int, str]]) -> list[str]:
        """The stages that have left no record of what they did with `event`."""
        return [
            name
            for name in self._names.get(event.topic, ())
            if event.only_for in (None, name)
            and (event.event_id, event.replay, name) not in finished
        ]

    def is_record_due(self, event: EventRow, since: float | None) -> bool:
        """Whether a stage that has finished `event` has left a record of it."""
        is_read = bool(self._plan.readers.get(event.topic))
        return is_read and since is not None and event.created >= since

    def wait_on_broker(
        self, db: sqlite3.Connection, event: EventRow, names: Iterable[str]
    ) -> list[str]:
        """Those of the stages `names` that have not finished `event`, as the broker knows. Asked
        within a snapshot."""
        raw = _raw(db, event.id)
        key = events.load(raw).key
        record = Found(event.topic, event.part, event.offset, 0, key, raw)
        return [name for name in names if not self._broker.is_done(name, record)]


class Settling:
    """Computes the states and sums of runs. `pipelines` is whose each topic is."""

    def __init__(self, file: IndexFile, readers: Readers, pipelines: Mapping[str, str]) -> None:
        self._file = file
        self._readers = readers
        self._pipelines = pipelines

    def look_again(self) -> None:
        """The runs that only the broker knows of are settled again."""
        db = self._file.open()
        since = about(db, "since")
        # Earlier versions wrote no records of their steps: only the broker knows of such runs.
        db.execute(
            "update run set dirty = 1 where state = ? and not dirty and (? is null or began < ?)",
            (RUNNING, since, since),
        )

    def settle(self, with_broker: bool) -> bool:
        """Compute state and sums of each run that something was read of. Returns whether some are
        left that only the broker knows the state of."""
        db = self._file.open()
        since = about(db, "since")
        after, left = 0, False
        while True:
            runs = db.execute(
                "select n, cancelled, has_dead, line from run where dirty and n > ?"
                " order by n limit ?",
                (after, SETTLED_AT_ONCE),
            ).fetchall()
            if not runs:
                return left
            after = runs[-1][0]
            numbers = [run[0] for run in runs]
            made = rows_of(db, "event", EventRow._fields, numbers)
            done = rows_of(db, "step", StepRow._fields, numbers)
            used = rows_of(db, "used", _UsedRow._fields, numbers)
            with transaction(db):
                rows = []
                for number, cancelled, has_dead, line in runs:
                    run = _OfRun(
                        number,
                        cancelled,
                        has_dead,
                        line,
                        events=[EventRow(*row) for row in made.get(number, ())],
                        steps=[StepRow(*row) for row in done.get(number, ())],
                        used=[_UsedRow(*row) for row in used.get(number, ())],
                    )
                    row = self._settled(db, run, since, with_broker)
                    if row is not None:
                        rows.append(row)
                    else:
                        left = True
                db.executemany(SETTLE, rows)
                db.execute("delete from run where state is null and not dirty")

    def _settled(
        self,
        db: sqlite3.Connection,
        run: _OfRun,
        since: float | None,
        with_broker: bool,
    ) -> tuple[Any, ...] | None:
        """Return what is to be noted of a run; None if the broker has to be asked for it first."""
        finished = {one[:3] for one in run.steps}
        state = None
        if run.events:
            state = DONE
            for one in run.events:
                if not (waits := self._readers.waits(one, finished)):
                    continue
                if self._readers.is_record_due(one, since):
                    state = RUNNING
                elif not with_broker:
                    return None
                elif self._readers.wait_on_broker(db, one, waits):
                    state = RUNNING
        dead: list[bytes] = []
        if run.has_dead:
            sql = "select value from dead where n = ? and resolved <> ?"
            dead = [raw for (raw,) in db.execute(sql, (run.number, REPLAYED))]
        if state == DONE and run.cancelled:
            state = CANCELLED
        elif state != RUNNING and dead:
            state = DEAD
        if state is None:
            _forget_run(db, run.number)
            return _row(run.number, state=None)
        return self._summed(db, run, state, dead)

    def _summed(
        self, db: sqlite3.Connection, run: _OfRun, state: str, dead: Sequence[bytes]
    ) -> tuple[Any, ...]:
        tokens_in = sum(one.input_tokens for one in run.used)
        tokens_out = sum(one.output_tokens for one in run.used)
        unpriced = sum(one.unpriced for one in run.used)
        retries = sum(one.retries for one in run.steps)
        models = {one.model for one in run.used}
        cards = {one.card for one in run.steps if one.card is not None}
        recorded = {(one.event_id, one.stage) for one in run.steps}
        for event in run.events:
            # Of a step without a record, its output says what it used.
            if event.model is None or (event.parent_id, event.stage) in recorded:
                continue
            tokens_in += event.input_tokens or 0
            tokens_out += event.output_tokens or 0
            retries += max(0, event.attempt - 1)
            if event.requests:
                models.add(event.model)
                unpriced += 0 if wrote_offline(event.model) else event.requests
            if event.card is not None:
                cards.add(event.card)
        times = [one.created for one in run.events] + [one.ended for one in run.steps if one.ended]
        line = run.line
        if run.events:
            first = min(run.events, key=_created)
            stage = max(run.events, key=_created).topic
            # Not as the event says, unless no chain has its topic any more: another program may
            # have written it.
            pipeline = self._pipelines.get(first.topic)
            if pipeline is None or not line:
                # Its first events may be gone: what is left of them is in the others.
                event_ = events.load(_raw(db, first.id))
                pipeline, line = pipeline or event_.pipeline, line or first_line(event_)
        else:
            left = dead_letters.load(unpack(dead[0]))
            pipeline, stage, times = left.pipeline, left.topic, [left.failed]
            line = f"{left.cause}: {left.message}".split("\n")[0][:LINE_CHARS]
        return _row(
            run.number,
            pipeline=pipeline,
            state=state,
            began=min(times),
            last=max(times),
            line=line,
            stage=stage,
            input_tokens=tokens_in,
            output_tokens=tokens_out,
            cost=sum(one.cost for one in run.used),
            unpriced=unpriced,
            saved=sum(one.saved for one in run.used),
            retries=retries,
            recalled=sum(one.recalled for one in run.steps),
            cards=barred(cards | {card.partition("@")[0] for card in cards}),
            models=barred(models),
        )


class Forgetting:
    """Deletes from the index what retention has deleted from the topics."""

    def __init__(self, file: IndexFile, broker: Broker) -> None:
        self._file = file
        self._broker = broker

    def forget(self, every_s: float) -> None:
        """Delete what retention has deleted, unless that was done in the last `every_s` seconds.
        That are the oldest records, so it is enough to begin with the oldest runs and to stop where
        everything is there."""
        db = self._file.open()
        if time.time() - (about(db, "looked") or 0.0) < every_s:
            return
        after: tuple[float, int] = (-1.0, 0)
        while True:
            runs = db.execute(
                "select began, n, state from run where state is not null and (began, n) > (?, ?)"
                " order by began, n limit ?",
                (*after, LOOKED_AT_ONCE),
            ).fetchall()
            with transaction(db):
                gone, kept = self._forget_events(db, [number for _, number, _ in runs])
            if len(runs) < LOOKED_AT_ONCE:
                break
            # Runs that are not over are kept, however old they are, and so are dead letters.
            over = {number for _, number, state in runs if state != RUNNING}
            if not gone and over & kept:
                break
            after = runs[-1][:2]
        note_about(db, "looked", time.time())

    def _forget_events(
        self, db: sqlite3.Connection, numbers: Sequence[int]
    ) -> tuple[set[int], set[int]]:
        """Delete the events of runs that are gone from their topics. Returns the runs of which some
        are gone, and of which some are left."""
        offsets: dict[TP, list[int]] = {}
        rows = rows_of(db, "event", EventRow._fields, numbers)
        made = [EventRow(*row) for of_run in rows.values() for row in of_run]
        for one in made:
            offsets.setdefault(TP(one.topic, one.part), []).append(one.offset)
        there = {tp: self._broker.kept(*tp, sorted(of)) for tp, of in offsets.items()}
        gone, kept = set(), set()
        for one in made:
            if one.offset in there[TP(one.topic, one.part)]:
                kept.add(one.id >> SHIFT)
                continue
            gone.add(one.id >> SHIFT)
            text = searched_text(events.load(_raw(db, one.id)), one.makes)
            sql = "insert into body (body, rowid, text) values ('delete', ?, ?)"
            db.execute(sql, (one.id, text))
            db.execute("delete from event where id = ?", (one.id,))
            db.execute("delete from event_raw where id = ?", (one.id,))
        db.executemany("update run set dirty = 1 where n = ?", [(number,) for number in gone])
        return gone, kept


def _row(number: int, **fields: Any) -> tuple[Any, ...]:
    return (*(_NOTHING | fields).values(), number)


def _forget_run(db: sqlite3.Connection, number: int) -> None:
    """Delete all that is known of a run without an event."""
    for table in ("step", "step_raw"):
        db.execute(f"delete from {table} where id >= ? and id < ?", span(number))
    db.execute("delete from used where step >= ? and step < ?", span(number))
    db.execute("delete from tag where n = ?", (number,))
    db.execute("delete from dead where n = ?", (number,))


def _created(event: EventRow) -> float:
    return event.created


def _raw(db: sqlite3.Connection, id_: int) -> bytes:
    (value,) = db.execute("select value from event_raw where id = ?", (id_,)).fetchone()
    return unpack(value)
