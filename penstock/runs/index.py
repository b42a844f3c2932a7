"""The index: runs and their steps in one SQLite file, to be listed, searched and summed.

It is filled by following the topics from a stored cursor, on either broker, and never by a worker's
hot path. Nothing in it is the only copy: a file that is damaged, of another version or of another
broker is deleted and filled anew.
"""

import concurrent.futures
import contextlib
import dataclasses
import fcntl
import functools
import json
import logging
import math
import os
import pathlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple, TypeVar

import cramjam
import msgspec

from penstock import private
from penstock.broker.contract import Broker, Found
from penstock.broker.tp import TP
from penstock.errors import BrokerUnavailable, MalformedEvent, NotFound
from penstock.journal import Call
from penstock.models import wrote_offline
from penstock.project.project import Project
from penstock.record import dead_letters, events, steps
from penstock.record.dead_letters import REPLAYED, DeadLetter
from penstock.record.events import Event, as_trace_id
from penstock.record.steps import StepRecord
from penstock.runs.runs import CANCELLED, DEAD, DONE, RUNNING, Entry, Run, once
from penstock.settings import Settings

log = logging.getLogger(__name__)

#: Increased when a table changes, or what is put into one.
VERSION = 1
#: The id of an event or a step is `run number << SHIFT | its number in the run`: those of a run are
#: side by side, and found without another index.
SHIFT = 20
MOST_IN_RUN = 1 << SHIFT
#: Records read and written in one transaction.
BATCH = 4000
#: Runs whose state is computed in one transaction.
SETTLED_AT_ONCE = 1000
#: Seconds between looks at what retention has deleted, and how many runs each look begins with.
FORGET_EVERY_S = 60.0
LOOKED_AT_ONCE = 200
#: Seconds between tries for the lock of whoever fills the file.
LOCK_LOOK_S = 0.05
#: Characters of the first line of a run's text.
LINE_CHARS = 120
#: Characters of a trace id that are enough to look for one.
LEAST_PREFIX = 4
#: Runs that are named when a prefix is of several.
NAMED = 5
#: Rows that are taken together to find runs by; where a tag or a word has more, runs are asked.
FEW = 20_000
#: Kilobytes of the file that a connection holds in memory.
CACHE_KB = 32_000
#: Bytes of a page: with SQLite's own 4,096 it takes half as long again to fill the file.
PAGE_BYTES = 16_384
#: Pages in the write-ahead log before it is copied into the file: what changes often is copied
#: once.
CHECKPOINT_PAGES = 6_000

SCHEMA = """
create table about (name text primary key, value) without rowid;
create table cursor (
    topic text, part integer, id text not null, next integer not null, primary key (topic, part)
) without rowid;
create table run (
    n integer primary key, trace_id text not null unique,
    pipeline text not null default '', state text, -- null while no event of it is known
    began real, last real, line text not null default '', stage text not null default '',
    input_tokens integer not null default 0, output_tokens integer not null default 0,
    cost real not null default 0, unpriced integer not null default 0,
    saved real not null default 0, retries integer not null default 0,
    recalled integer not null default 0,
    cards text not null default '', models text not null default '', -- between bars: |a|b|
    tags text not null default '{}', forked_from text,
    cancelled integer not null default 0, has_dead integer not null default 0,
    events integer not null default 0, steps integer not null default 0, -- numbers given out
    dirty integer not null default 1
);
create index run_by_time on run (began, n) where state is not null;
create index run_by_state on run (state, began, n);
create index run_by_pipeline on run (pipeline, began, n) where state is not null;
create index run_to_settle on run (n) where dirty;
create table event (
    id integer primary key, topic text not null, part integer not null, offset integer not null,
    event_id text not null, replay integer not null, only_for text, parent_id text,
    stage text not null, created real not null, attempt integer not null,
    agent text, card text, model text, requests integer, input_tokens integer,
    output_tokens integer, makes text -- the part whose text is searched; null: all
);
create table event_raw (id integer primary key, value blob not null);
create table step (
    id integer primary key, record_id text not null, event_id text not null,
    replay integer not null, stage text not null, who text not null, card text, -- NAME@HASH
    ended real not null, retries integer not null, recalled integer not null
);
create table step_raw (id integer primary key, value blob not null);
create table used ( -- what a step's calls of one model used
    step integer not null, model text not null, day text not null, calls integer not null,
    recalled integer not null, input_tokens integer not null, cached_tokens integer not null,
    output_tokens integer not null, cost real not null, unpriced integer not null,
    saved real not null, primary key (step, model, day)
) without rowid;
create table tag (
    name text, value text, n integer, primary key (name, value, n)
) without rowid;
create index tag_by_run on tag (n);
create table dead (id text primary key, n integer not null, resolved text, value blob not null);
create index dead_by_run on dead (n);
create virtual table body using fts5 (
    text, content = '', columnsize = 0, tokenize = 'unicode61 remove_diacritics 2'
);
-- Texts are gathered in memory for a whole batch (in bytes), and merged seldom: half the time.
insert into body (body, rank) values ('hashsize', 16777216);
insert into body (body, rank) values ('automerge', 16);
"""

Progress = Callable[[int, int], None]
T = TypeVar("T")


class Bound(NamedTuple):
    """A limit of a figure: `sign` is '<', '<=', '>' or '>='."""

    sign: str
    value: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filter:
    """Which runs to find: those that everything here applies to. `since` is in seconds since 1970
    UTC, `took` in seconds, `cost` in US dollars. `text` is words, or "several words" in quotes,
    each of which some event of the run has added."""

    pipeline: str | None = None
    state: str | None = None
    text: str | None = None
    card: str | None = None
    model: str | None = None
    cost: Bound | None = None
    took: Bound | None = None
    since: float | None = None
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRow:
    """A run as it is listed. `began` and `last` are in seconds since 1970 UTC, the latter of its
    last event or step. `cost` is None while the price of a call is not known."""

    number: int
    trace_id: str
    pipeline: str
    state: str
    began: float
    last: float
    line: str
    stage: str
    input_tokens: int
    output_tokens: int
    cost: float | None
    saved: float
    retries: int
    recalled: int
    cards: tuple[str, ...]
    models: tuple[str, ...]
    tags: dict[str, str]
    forked_from: str | None

    @property
    def page(self) -> tuple[float, int]:
        """What `Index.find` goes on after."""
        return self.began, self.number

    def took(self, now: float) -> float:
        """Return the seconds from its beginning to its end, or to `now` while it is running."""
        return max(0.0, (now if self.state == RUNNING else self.last) - self.began)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CostRow:
    """What calls of models used and cost, in US dollars. `unpriced` is how many have no price that
    is known, and are not in `cost`; `saved` is what recalled answers were not paid again."""

    name: str
    runs: int
    calls: int
    recalled: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost: float
    unpriced: int
    saved: float


#: What costs are summed by, and the column of each.
COSTS_BY = {
    "pipeline": "run.pipeline",
    "card": "step.who",
    "model": "used.model",
    "day": "used.day",
    "tag": "tag.name || '=' || tag.value",
}


class _Damaged(Exception):
    """The file cannot be used, and is made anew."""


class _File:
    """A connection to the file of an index, which is `of` an app on a broker."""

    def __init__(self, path: pathlib.Path, of: str) -> None:
        self._path = path
        self._of = of
        self._db: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None

    def open(self, make: bool = False) -> sqlite3.Connection:
        """Return the connection. Raises `_Damaged` for a file that is not there, unless it is to be
        made, and for one of something else."""
        if self._db is not None and _inode(self._path) == self._inode:
            return self._db
        self.close()
        if make:
            private.make_file(self._path)
        elif not self._path.exists():
            raise _Damaged
        db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None, timeout=30)
        self._db, self._inode = db, _inode(self._path)
        (version,) = db.execute("pragma user_version").fetchone()
        db.execute(f"pragma page_size = {PAGE_BYTES}")
        db.execute("pragma journal_mode = wal")
        # What a power cut takes away is read again.
        db.execute("pragma synchronous = normal")
        db.execute("pragma secure_delete = fast")
        db.execute(f"pragma cache_size = -{CACHE_KB}")
        db.execute(f"pragma wal_autocheckpoint = {CHECKPOINT_PAGES}")
        if version == 0 and make:
            db.executescript(f"begin immediate; {SCHEMA} pragma user_version = {VERSION}; commit;")
            db.execute("insert into about values ('of', ?)", (self._of,))
        elif version != VERSION or _get(db, "of") != self._of:
            raise _Damaged
        return db

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db = None


#: What a damaged file leads to, among other things: see `_is_damage`.
DAMAGE = (_Damaged, sqlite3.DatabaseError, cramjam.DecompressionError)


class Index:
    """The index of one app on one broker. Methods block, and may be called in any thread."""

    def __init__(self, settings: Settings, project: Project, broker: Broker) -> None:
        self.path = settings.data / "index.db"
        self.project = project
        self.broker = broker
        self.plan = project.plan(settings.app_id)
        self.forget_every_s = FORGET_EVERY_S
        url = settings.redact(settings.broker_url)
        of = json.dumps([VERSION, settings.app_id, url, settings.topic_prefix])
        # Two, so that nobody who reads waits for what is taken in.
        self._filler = _File(self.path, of)
        self._reader = _File(self.path, of)
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._pipelines = {
            topic: chain.name for chain in project.chains.values() for topic in chain.topics
        }
        self._makes = {stage.name: stage.makes for stage in project.stages}
        self._readers = {
            topic: list(self.plan.readers.get(topic, ())) for topic in self.plan.topics
        }

    def close(self) -> None:
        with self._lock, self._reading:
            self._filler.close()
            self._reader.close()

    # -- filling

    def refresh(self, progress: Progress | None = None) -> None:
        """Take in what was written since, by whatever process: afterwards the index is as the
        topics were when this was called, or later. `progress` is called with the records that were
        read and those that there are. Only one process does it at a time, and others wait. Raises
        `BrokerUnavailable`, also where the file cannot be written."""
        with self._lock, self._explained(), self._filling():
            try:
                self._refresh(progress or _quiet)
            except DAMAGE as exc:
                if not _is_damage(exc):
                    raise
                self._delete()
                self._refresh(progress or _quiet)

    def _make_anew(self) -> None:
        """The file is deleted and filled anew."""
        with self._lock, self._explained(), self._filling():
            self._delete()
            self._refresh(_quiet)

    @contextlib.contextmanager
    def _filling(self) -> Iterator[None]:
        """Inside, no other process fills the file."""
        private.make_folder(self.path.parent)
        lock = self.path.with_name(self.path.name + ".lock")
        private.make_file(lock)
        with open(lock, "a") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(LOCK_LOOK_S)
            yield

    def _delete(self) -> None:
        self._filler.close()
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _get(self, name: str) -> Any:
        return _get(self._filler.open(), name)

    def _set(self, name: str, value: Any) -> None:
        self._filler.open().execute("insert or replace into about values (?, ?)", (name, value))

    def _refresh(self, progress: Progress) -> None:
        db = self._filler.open(make=True)
        self._note_readers()
        self._follow(progress)
        self._forget()
        since = self._get("since")
        # Earlier versions wrote no records of their steps: only the broker knows of such runs.
        db.execute(
            "update run set dirty = 1 where state = ? and not dirty and (? is null or began < ?)",
            (RUNNING, since, since),
        )
        if self._settle(with_broker=False):
            # The broker says that an event is done at a time when its outputs can be read here.
            with self.broker.snapshot():
                self._follow(_quiet)
                self._settle(with_broker=True)

    def _note_readers(self) -> None:
        """Note who reads which topic. When that has changed, so may every state."""
        known = json.loads(self._get("readers") or "{}")
        now = {topic: list(self.plan.readers.get(topic, ())) for topic in self.plan.topics}
        # What was on its way when a chain was edited is not over.
        gone = {topic: sorted(names) for topic, names in self.broker.gone().items()}
        gone |= {topic: names for topic, names in known.items() if topic not in now}
        self._readers = gone | now
        if self._readers != known:
            self._set("readers", json.dumps(self._readers))
            self._filler.open().execute("update run set dirty = 1")

    def _follow(self, progress: Progress) -> None:
        """Take in the topics up to where they end now."""
        db = self._filler.open()
        own = [self.plan.dead_letters, self.plan.cancels, self.plan.steps]
        of_chains = [topic for topic in self._readers if topic not in own]
        # What is said of an event stands on a topic after the event, and a step's record after its
        # outputs. So their ends are asked for in the other order, and none of them is missed.
        extents = self.broker.extents([*reversed(own), *of_chains])
        cursors = {
            TP(topic, part): (id_, next_)
            for topic, part, id_, next_ in db.execute("select * from cursor")
        }
        for tp, (id_, next_) in cursors.items():
            if next_ and (tp not in extents or extents[tp].id != id_ or extents[tp].end < next_):
                raise _Damaged  # the topic was made anew, or a backup of it was restored
        spans = {
            tp: range(max(extent.first, cursors[tp][1] if tp in cursors else 0), extent.end)
            for tp, extent in extents.items()
        }
        total, done = sum(map(len, spans.values())), 0
        batch = _Batch(db)
        for topic in (*of_chains, *own):
            of_topic = {tp: span for tp, span in spans.items() if tp.topic == topic and span}
            for found, after in self._read_ahead(topic, of_topic):
                progress(done, total)
                self._take(batch, topic, found)
                for tp, next_ in after.items():
                    done += next_ - spans[tp].start
                    spans[tp] = range(next_, spans[tp].stop)
                    batch.cursors[tp] = (extents[tp].id, next_)
                if batch.size >= BATCH:
                    batch.write()
                    batch = _Batch(db)
        batch.write()
        progress(total, total)

    def _read_ahead(
        self, topic: str, spans: Mapping[TP, range]
    ) -> Iterator[tuple[list[Any], dict[TP, int]]]:
        """Yield what is in `spans` of a topic, decoded, and where each partition goes on. The next
        ones are read and decoded in another thread while these are written."""

        def read(spans: Mapping[TP, range]) -> tuple[list[Any], dict[TP, int]]:
            found, after = self.broker.follow(spans, BATCH)
            return [one for record in found for one in self._decoded(topic, record)], after

        with concurrent.futures.ThreadPoolExecutor(1, "penstock-index") as thread:
            reading = thread.submit(read, spans) if spans else None
            while reading is not None:
                found, after = reading.result()
                rest = {tp: range(after.get(tp, of.start), of.stop) for tp, of in spans.items()}
                spans = {tp: span for tp, span in rest.items() if span}
                reading = thread.submit(read, spans) if spans else None
                yield found, after

    def _decoded(self, topic: str, record: Found) -> list[Any]:
        """What `_take` is given of a record: nothing of one that is none of ours."""
        try:
            if topic == self.plan.steps:
                return [(step, _packed(_encode(step))) for step in steps.load(record.value)]
            if topic == self.plan.dead_letters:
                return [(dead_letters.load(record.value), _packed(record.value))]
        except (MalformedEvent, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            location = f"{record.topic}/{record.partition}/{record.offset}"
            log.warning("the record %s is left out of the index: %s", location, exc)
            return []
        if topic == self.plan.cancels:
            return [record.key.decode(errors="replace")]
        try:
            event = events.load(record.value)
            events.require_key(event, record.key)
        except MalformedEvent:
            return []  # its dead letter tells of it
        return [(record, event, _packed(record.value))]

    def _take(self, batch: "_Batch", topic: str, found: Sequence[Any]) -> None:
        if topic == self.plan.steps:
            batch.load({step.trace_id for step, _ in found}, "step")
            for step, packed in found:
                self._take_step(batch, step, packed)
        elif topic == self.plan.dead_letters:
            batch.load({dead_letter.trace_id for dead_letter, _ in found}, None)
            for dead_letter, packed in found:
                number = batch.run(dead_letter.trace_id).number
                batch.has_dead.add(number)
                batch.dead.append((dead_letter.id, number, dead_letter.resolved, packed))
        elif topic == self.plan.cancels:
            batch.load(set(found), None)
            batch.cancelled |= {batch.run(trace_id).number for trace_id in found}
        else:
            batch.load({event.trace_id for _, event, _ in found}, "event")
            for one in found:
                self._take_event(batch, *one)

    def _take_event(self, batch: "_Batch", record: Found, event: Event, packed: bytes) -> None:
        run = batch.run(event.trace_id)
        what = (record.topic, event.id, event.replay)
        if what in run.known or run.next_event == MOST_IN_RUN:
            return  # a crash has left it twice
        run.known.add(what)
        id_ = run.number << SHIFT | run.next_event
        run.next_event += 1
        makes = None
        if event.parent_id is None:
            batch.note_begun(run, event)
        else:
            names = (self._makes.get(event.stage), record.topic, next(reversed(event.parts)))
            makes = next(name for name in names if name in event.parts)
        usage = event.usage
        spent: tuple[Any, ...] = (None,) * 4
        if usage is not None:
            spent = (usage.model, usage.requests, usage.input_tokens, usage.output_tokens)
        batch.events.append(
            (
                *(id_, record.topic, record.partition, record.offset, event.id, event.replay),
                *(event.only, event.parent_id, event.stage, event.created, event.attempt),
                *(event.agent, event.card, *spent, makes),
            )
        )
        batch.events_raw.append((id_, packed))
        batch.texts.append((id_, searched_text(event, makes)))

    def _take_step(self, batch: "_Batch", step: StepRecord, packed: bytes) -> None:
        run = batch.run(step.trace_id)
        if (step.id,) in run.known or run.next_step == MOST_IN_RUN:
            return
        run.known.add((step.id,))
        id_ = run.number << SHIFT | run.next_step
        run.next_step += 1
        batch.since = min(batch.since, step.ended)
        who = step.does if step.card is None else step.card.partition("@")[0]
        used: dict[tuple[str, str], list[float]] = {}

        def sums_of(call: Call) -> list[float]:
            return used.setdefault((call.name, _day(int(call.asked) // 86400)), [0] * 8)

        for call in step.paid:
            sums = sums_of(call)
            tokens = (call.input_tokens, call.cached_tokens, call.output_tokens)
            added = (1, 0, *tokens, call.cost or 0.0, call.cost is None, 0)
            sums[:] = [one + more for one, more in zip(sums, added, strict=True)]
        for call in step.recalled:
            sums = sums_of(call)
            sums[1] += 1
            sums[7] += call.cost or 0.0
        batch.used += [(id_, model, day, *sums) for (model, day), sums in used.items()]
        batch.steps.append(
            (
                *(id_, step.id, step.event, step.replay, step.stage, who, step.card),
                *(step.ended, len(step.tries), len(step.recalled)),
            )
        )
        batch.steps_raw.append((id_, packed))

    # -- states

    def _settle(self, with_broker: bool) -> bool:
        """Compute state and sums of each run that something was read of. Returns whether some are
        left that only the broker knows the state of."""
        db = self._filler.open()
        since = self._get("since")
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
            made = _rows_of(db, "event", _EventRow._fields, numbers)
            done = _rows_of(db, "step", _StepRow._fields, numbers)
            used = _rows_of(db, "used", _UsedRow._fields, numbers)
            with _transaction(db):
                rows = []
                for number, cancelled, has_dead, line in runs:
                    run = _OfRun(
                        number,
                        cancelled,
                        has_dead,
                        line,
                        events=[_EventRow(*row) for row in made.get(number, ())],
                        steps=[_StepRow(*row) for row in done.get(number, ())],
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
        run: "_OfRun",
        since: float | None,
        with_broker: bool,
    ) -> tuple[Any, ...] | None:
        """Return what is to be noted of a run; None if the broker has to be asked for it first."""
        finished = {one[:3] for one in run.steps}
        state = None
        if run.events:
            state = DONE
            for one in run.events:
                if not (waits := self._waits(one, finished)):
                    continue
                if self._is_record_due(one, since):
                    state = RUNNING
                elif not with_broker:
                    return None
                elif self._wait_on_broker(db, one, waits):
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
            self._forget_run(db, run.number)
            return _settling(run.number, state=None)
        return self._summed(db, run, state, dead)

    def _waits(self, event: "_EventRow", finished: Set[tuple[str, int, str]]) -> list[str]:
        """The stages that have left no record of what they did with `event`."""
        return [
            name
            for name in self._readers.get(event.topic, ())
            if event.only_for in (None, name)
            and (event.event_id, event.replay, name) not in finished
        ]

    def _is_record_due(self, event: "_EventRow", since: float | None) -> bool:
        """Whether a stage that has finished `event` has left a record of it."""
        is_read = bool(self.plan.readers.get(event.topic))
        return is_read and since is not None and event.created >= since

    def _wait_on_broker(
        self, db: sqlite3.Connection, event: "_EventRow", names: Iterable[str]
    ) -> list[str]:
        """Those of the stages `names` that have not finished `event`, as the broker knows. Asked
        within a snapshot."""
        raw = _raw(db, event.id)
        key = events.load(raw).key
        record = Found(event.topic, event.part, event.offset, 0, key, raw)
        return [name for name in names if not self.broker.is_done(name, record)]

    def _summed(
        self, db: sqlite3.Connection, run: "_OfRun", state: str, dead: Sequence[bytes]
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
            left = dead_letters.load(_unpacked(dead[0]))
            pipeline, stage, times = left.pipeline, left.topic, [left.failed]
            line = f"{left.cause}: {left.message}".split("\n")[0][:LINE_CHARS]
        return _settling(
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
            cards=_barred(cards | {card.partition("@")[0] for card in cards}),
            models=_barred(models),
        )

    # -- retention

    def _forget(self) -> None:
        """Delete what retention has deleted from the topics. That are the oldest records, so it is
        enough to begin with the oldest runs and to stop where everything is there."""
        db = self._filler.open()
        if time.time() - (self._get("looked") or 0.0) < self.forget_every_s:
            return
        after: tuple[float, int] = (-1.0, 0)
        while True:
            runs = db.execute(
                "select began, n, state from run where state is not null and (began, n) > (?, ?)"
                " order by began, n limit ?",
                (*after, LOOKED_AT_ONCE),
            ).fetchall()
            with _transaction(db):
                gone, kept = self._forget_events(db, [number for _, number, _ in runs])
            if len(runs) < LOOKED_AT_ONCE:
                break
            # Runs that are not over are kept, however old they are, and so are dead letters.
            over = {number for _, number, state in runs if state != RUNNING}
            if not gone and over & kept:
                break
            after = runs[-1][:2]
        self._set("looked", time.time())

    def _forget_events(
        self, db: sqlite3.Connection, numbers: Sequence[int]
    ) -> tuple[set[int], set[int]]:
        """Delete the events of runs that are gone from their topics. Returns the runs of which some
        are gone, and of which some are left."""
        offsets: dict[TP, list[int]] = {}
        rows = _rows_of(db, "event", _EventRow._fields, numbers)
        made = [_EventRow(*row) for of_run in rows.values() for row in of_run]
        for one in made:
            offsets.setdefault(TP(one.topic, one.part), []).append(one.offset)
        there = {tp: self.broker.kept(*tp, sorted(of)) for tp, of in offsets.items()}
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

    def _forget_run(self, db: sqlite3.Connection, number: int) -> None:
        """Delete all that is known of a run without an event."""
        for table in ("step", "step_raw"):
            db.execute(f"delete from {table} where id >= ? and id < ?", _span(number))
        db.execute("delete from used where step >= ? and step < ?", _span(number))
        db.execute("delete from tag where n = ?", (number,))
        db.execute("delete from dead where n = ?", (number,))

    # -- reading

    def find(
        self, wanted: Filter = Filter(), limit: int = 50, after: tuple[float, int] | None = None
    ) -> list[RunRow]:
        """Return the runs that `wanted` applies to, as of the last `refresh`: the newest first, and
        after the row whose `page` is `after`."""
        return self._ask(lambda db: _find(db, wanted, limit, after))

    def resolve(self, prefix: str) -> str:
        """Return the id of the run that begins with `prefix`; a whole id is taken as it is. Raises
        `NotFound` for none, and for several with a sentence that names them."""
        with contextlib.suppress(ValueError):
            return as_trace_id(prefix)
        said = prefix.strip().lower()
        if len(said) < LEAST_PREFIX or said.strip("0123456789abcdef-"):
            raise NotFound(
                f"{prefix!r} is not a trace id: it is a UUID, or at least {LEAST_PREFIX} characters"
                " of its beginning. To list them: penstock runs"
            )
        found = self._read(
            "select trace_id, pipeline, state from run where trace_id >= ? and trace_id < ?"
            " and state is not null order by began desc limit ?",
            (said, said + "g", NAMED + 1),
        )
        if len(found) == 1:
            return str(found[0][0])
        if not found:
            raise NotFound(f"there is no run whose trace id begins with '{said}'")
        listed = ", ".join(f"{id_} ({name}, {state})" for id_, name, state in found[:NAMED])
        raise NotFound(
            f"several runs begin with '{said}': {listed}{' ...' * (len(found) > NAMED)}."
            " Give more of the trace id"
        )

    def read(self, trace_id: str) -> Run:
        """Return the run with all its events, as of the last `refresh`, without a look at the
        topics. Raises `NotFound`."""
        return self._ask(lambda db: self._read_run(db, trace_id))

    def _read_run(self, db: sqlite3.Connection, trace_id: str) -> Run:
        row = db.execute(
            "select n, pipeline, cancelled from run where trace_id = ? and state is not null",
            (trace_id,),
        ).fetchone()
        if row is None:
            raise NotFound(f"there is no run {trace_id} on the topics of this project")
        number, pipeline, cancelled = row
        made = _events(db, number)
        rows = _rows_of(db, "step", _StepRow._fields[:3], [number]).get(number, [])
        finished: Any = set(rows)
        waits = {one.id: self._waits(one, finished) for one in made}
        since = _get(db, "since")
        asked = [one for one in made if waits[one.id] and not self._is_record_due(one, since)]
        if asked:
            with self.broker.snapshot():
                waits |= {one.id: self._wait_on_broker(db, one, waits[one.id]) for one in asked}
        raws = dict(db.execute("select * from event_raw where id >= ? and id < ?", _span(number)))
        of_dead = db.execute("select value from dead where n = ?", (number,)).fetchall()
        entries = [
            Entry(
                *(one.topic, one.part, one.offset),
                events.load(_unpacked(raws[one.id])),
                tuple(waits[one.id]),
            )
            for one in made
        ]
        found = (dead_letters.load(_unpacked(raw)) for (raw,) in of_dead)
        dead = sorted((one for one in found if one.resolved != REPLAYED), key=_failed)
        return Run(
            trace_id,
            pipeline,
            tuple(sorted(once(entries), key=lambda entry: entry.event.created)),
            tuple(dead),
            bool(cancelled),
            self.project.chains.get(pipeline),
        )

    def steps(self, trace_id: str) -> list[StepRecord]:
        """Return the records of the run's steps, in the order in which they were taken."""
        rows = self._read(
            "select value from step_raw, run where trace_id = ?"
            " and id >= n << 20 and id < n + 1 << 20",
            (trace_id,),
        )
        found = [_step.decode(_unpacked(raw)) for (raw,) in rows]
        return sorted(found, key=lambda step: step.taken)

    def costs(self, by: str) -> list[CostRow]:
        """Return what calls of models cost, summed by one of `COSTS_BY`, the most expensive first;
        days in their order."""
        column = COSTS_BY[by]
        joined = " join run on run.n = used.step >> 20"
        if by == "card":
            joined += " join step on step.id = used.step"
        if by == "tag":
            joined += " join tag on tag.n = run.n"
        order = "1" if by == "day" else "cost desc, unpriced desc, input_tokens desc, 1"
        rows = self._read(
            f"select {column}, count(distinct run.n), sum(used.calls), sum(used.recalled),"
            " sum(used.input_tokens) as input_tokens, sum(used.cached_tokens),"
            " sum(used.output_tokens), sum(used.cost) as cost, sum(used.unpriced) as unpriced,"
            f" sum(used.saved) from used{joined} where run.state is not null"
            f" group by 1 order by {order}"
        )
        names = [field.name for field in dataclasses.fields(CostRow)]
        return [CostRow(**dict(zip(names, row, strict=True))) for row in rows]

    def unpriced(self) -> list[str]:
        """Return the models of calls that have no price that is known."""
        rows = self._read("select distinct model from used where unpriced order by model")
        return [str(name) for (name,) in rows]

    def _read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._ask(lambda db: db.execute(sql, values).fetchall())

    def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Return the answer of the file as it is at one moment. One that cannot be used is made
        anew first."""
        with self._reading, self._explained():
            try:
                return self._asked(question)
            except DAMAGE as exc:
                if not _is_damage(exc):
                    raise
            self._reader.close()
            self._make_anew()
            return self._asked(question)

    def _asked(self, question: Callable[[sqlite3.Connection], T]) -> T:
        db = self._reader.open()
        db.execute("begin")
        try:
            return question(db)
        finally:
            if db.in_transaction:
                db.execute("rollback")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as exc:
            raise BrokerUnavailable(
                f"{self.path}: the index of runs cannot be used: {exc}. Make room, or its folder"
                " writable, or name another: PENSTOCK_DATA"
            ) from exc


class _RunKeys:
    """A run as a batch knows it: its number, the next free numbers in it, and what is in it."""

    __slots__ = ("known", "loaded", "next_event", "next_step", "number")

    def __init__(self, number: int, next_event: int = 0, next_step: int = 0) -> None:
        self.number = number
        self.next_event = next_event
        self.next_step = next_step
        #: Topic, id and replay of each event, and the ids of the records of steps.
        self.known: set[tuple[Any, ...]] = set()
        self.loaded: set[str] = set()


#: What an event or a step is known by.
_KEYS = {"event": ("topic", "event_id", "replay"), "step": ("record_id",)}


class _Batch:
    """Rows that are written in one transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._runs: dict[str, _RunKeys] = {}
        (last,) = db.execute("select max(n) from run").fetchone()
        self._next = (last or 0) + 1
        self.new: list[tuple[int, str]] = []
        self.cursors: dict[TP, tuple[str, int]] = {}
        self.since = math.inf
        self.events: list[tuple[Any, ...]] = []
        self.events_raw: list[tuple[int, bytes]] = []
        self.texts: list[tuple[int, str]] = []
        self.steps: list[tuple[Any, ...]] = []
        self.steps_raw: list[tuple[int, bytes]] = []
        self.used: list[tuple[Any, ...]] = []
        self.dead: list[tuple[str, int, str, bytes]] = []
        self.begun: list[tuple[str, str, str | None, int]] = []
        self.tags: list[tuple[str, str, int]] = []
        self.cancelled: set[int] = set()
        self.has_dead: set[int] = set()

    def run(self, trace_id: str) -> _RunKeys:
        """Return the run, which is new if nothing of it is known. `load` has looked for it."""
        run = self._runs.get(trace_id)
        if run is None:
            run = self._runs[trace_id] = _RunKeys(self._next)
            self._next += 1
            self.new.append((run.number, trace_id))
        return run

    def load(self, trace_ids: Iterable[str], table: str | None) -> None:
        """Look for the runs, and for what they have in `table`. All at once: a question to SQLite
        waits for the thread that reads ahead each time."""
        unknown = [id_ for id_ in trace_ids if id_ not in self._runs]
        rows = self._db.execute(
            "select trace_id, n, events, steps from json_each(?) cross join run"
            " on trace_id = value",
            (json.dumps(unknown),),
        )
        self._runs.update((trace_id, _RunKeys(*row)) for trace_id, *row in rows)
        if table is None:
            return
        found = filter(None, map(self._runs.get, trace_ids))
        runs = {run.number: run for run in found if table not in run.loaded}
        for number, keys in _rows_of(self._db, table, _KEYS[table], runs).items():
            runs[number].known.update(keys)
        for run in runs.values():
            run.loaded.add(table)

    def note_begun(self, run: _RunKeys, event: Event) -> None:
        """Note what the run began with."""
        tags = json.dumps(event.tags)
        self.begun.append((first_line(event), tags, event.forked_from, run.number))
        self.tags += [(name, value, run.number) for name, value in event.tags.items()]

    @property
    def size(self) -> int:
        return len(self.events) + len(self.steps)

    def write(self) -> None:
        with _transaction(self._db):
            self._write()

    def _write(self) -> None:
        self._db.executemany("insert into run (n, trace_id) values (?, ?)", self.new)
        for table, rows in (
            ("event", self.events),
            ("event_raw", self.events_raw),
            ("step", self.steps),
            ("step_raw", self.steps_raw),
            ("used", self.used),
            ("dead", self.dead),
            ("tag", self.tags),
        ):
            # In the order of the ids: what is side by side in the file is written at once.
            rows.sort(key=lambda row: row[0])
            if rows:
                marks = ", ".join("?" * len(rows[0]))
                self._db.executemany(f"insert or replace into {table} values ({marks})", rows)
        # FTS5 gathers texts in memory for as long as their ids go up.
        self.texts.sort()
        self._db.executemany("insert into body (rowid, text) values (?, ?)", self.texts)
        self._db.executemany(
            "update run set events = ?, steps = ?, dirty = 1 where n = ?",
            [(run.next_event, run.next_step, run.number) for run in self._runs.values()],
        )
        for column, numbers in (("cancelled", self.cancelled), ("has_dead", self.has_dead)):
            sql = f"update run set {column} = 1 where n = ?"
            self._db.executemany(sql, [(number,) for number in numbers])
        sql = "update run set line = ?, tags = ?, forked_from = ? where n = ?"
        self._db.executemany(sql, self.begun)
        rows = [(*tp, id_, next_) for tp, (id_, next_) in self.cursors.items()]
        self._db.executemany("insert or replace into cursor values (?, ?, ?, ?)", rows)
        if self.since < math.inf:
            self._db.execute(
                "insert into about values ('since', ?) on conflict (name) do update"
                " set value = min(value, excluded.value)",
                (self.since,),
            )


class _EventRow(NamedTuple):
    """An event as the table has it."""

    id: int
    topic: str
    part: int
    offset: int
    event_id: str
    replay: int
    only_for: str | None
    parent_id: str | None
    stage: str
    created: float
    attempt: int
    agent: str | None
    card: str | None
    model: str | None
    requests: int | None
    input_tokens: int | None
    output_tokens: int | None
    makes: str | None


class _StepRow(NamedTuple):
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
    events: list[_EventRow]
    steps: list[_StepRow]
    used: list[_UsedRow]


COLUMNS = (
    *("n", "trace_id", "pipeline", "state", "began", "last", "line", "stage"),
    *("input_tokens", "output_tokens", "cost", "unpriced", "saved", "retries", "recalled"),
    *("cards", "models", "tags", "forked_from"),
)
#: What is computed of a run, in the order of `_settling`.
SETTLED = COLUMNS[2:-2]
SETTLE = f"update run set {', '.join(f'{name} = ?' for name in SETTLED)}, dirty = 0 where n = ?"
#: What they are where nothing is known.
_NOTHING: dict[str, Any] = dict.fromkeys(SETTLED, "") | dict.fromkeys(
    ("input_tokens", "output_tokens", "cost", "unpriced", "saved", "retries", "recalled"), 0
)

_step = msgspec.json.Decoder(StepRecord)
_encode = msgspec.json.Encoder().encode


def _packed(raw: bytes) -> bytes:
    # Not zlib, nor zstd: records are packed by the thousand, and both take as long as all the rest.
    return bytes(cramjam.lz4.compress_block(raw))


def _unpacked(packed: bytes) -> bytes:
    return bytes(cramjam.lz4.decompress_block(packed))


def searched_text(event: Event, makes: str | None) -> str:
    """Return the text that `event` is found by: what it adds to its run, the part `makes`, or all
    parts and tags of one that began it."""
    if makes is not None:
        return _as_searched(event.parts[makes])
    return "\n".join([*map(_as_searched, event.parts.values()), *event.tags.values()])


def _as_searched(part: Any) -> str:
    return part if isinstance(part, str) else msgspec.json.encode(part).decode()


def first_line(event: Event) -> str:
    """Return the beginning of what a run begins with, for a list."""
    part = next(iter(event.parts.values()))
    if isinstance(part, dict):
        part = ", ".join(f"{name}: {_as_searched(value)}" for name, value in part.items())
    lines = (line.strip() for line in _as_searched(part).splitlines())
    return next(filter(None, lines), "")[:LINE_CHARS]


def _find(
    db: sqlite3.Connection, wanted: Filter, limit: int, after: tuple[float, int] | None
) -> list[RunRow]:
    where = ["state is not null"]
    values: list[Any] = []

    def add(condition: str, *of: Any) -> None:
        where.append(condition)
        values.extend(of)

    if after is not None:
        add("(began, n) < (?, ?)", *after)
    if wanted.pipeline is not None:
        add("pipeline = ?", wanted.pipeline)
    if wanted.state is not None:
        add("state = ?", wanted.state)
    if wanted.since is not None:
        add("began >= ?", wanted.since)
    if wanted.card is not None:
        add("instr(cards, ?)", f"|{wanted.card}|")
    if wanted.model is not None:
        add("instr(models, ?)", f"|{wanted.model}|")
    if wanted.cost is not None:
        # What is known of it is the least that it can be.
        known = "" if wanted.cost.sign in (">", ">=") else "not unpriced and "
        add(f"{known}cost {_sign(wanted.cost)} ?", wanted.cost.value)
    if wanted.took is not None:
        until = "case when state = ? then ? else last end"
        add(f"{until} - began {_sign(wanted.took)} ?", RUNNING, time.time(), wanted.took.value)
    for name, value in wanted.tags.items():
        rows = "from tag where name = ? and value = ?"
        add(*_having(db, f"n {rows}", f"{rows} and tag.n = run.n", name, value))
    for words in _words_of(wanted.text or ""):
        rows = "from body where body match ?"
        of_run = f"rowid >= n << {SHIFT} and rowid < n + 1 << {SHIFT}"
        add(*_having(db, f"rowid >> {SHIFT} {rows}", f"{rows} and {of_run}", words))
    found = db.execute(
        f"select {', '.join(COLUMNS)} from run where {' and '.join(where)}"
        " order by began desc, n desc limit ?",
        (*values, limit),
    )
    return [_run_row(row) for row in found]


def _having(db: sqlite3.Connection, numbers: str, rows_of_run: str, *values: str) -> list[str]:
    """Return the condition that a run is one of `numbers`, and its values. Of many it is asked run
    by run, from the newest on, whether it has such rows: the first page is soon full."""
    (count,) = db.execute(
        f"select count(*) from (select {numbers} limit {FEW + 1})", values
    ).fetchone()
    one_by_one = f"exists (select 1 {rows_of_run})"
    return [f"n in (select {numbers})" if count <= FEW else one_by_one, *values]


def _sign(bound: Bound) -> str:
    assert bound.sign in ("<", "<=", ">", ">=")
    return bound.sign


def _words_of(text: str) -> Iterator[str]:
    """The words of `text`, and "several" in quotes together, as FTS5 is asked for them."""
    for index, part in enumerate(text.replace("\0", " ").split('"')):
        for word in [part] if index % 2 else part.split():
            if any(char.isalnum() for char in word):
                yield f'"{word}"'


def _run_row(row: Sequence[Any]) -> RunRow:
    fields = dict(zip(COLUMNS, row, strict=True))
    if fields.pop("unpriced"):
        fields["cost"] = None
    fields |= {name: _unbarred(fields[name]) for name in ("cards", "models")}
    return RunRow(**fields | {"number": fields.pop("n"), "tags": json.loads(fields["tags"])})


def _settling(number: int, **fields: Any) -> tuple[Any, ...]:
    return (*(_NOTHING | fields).values(), number)


def _barred(names: Iterable[str]) -> str:
    found = "|".join(sorted(names))
    return f"|{found}|" if found else ""


def _unbarred(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split("|")))


def _failed(dead_letter: DeadLetter) -> float:
    return dead_letter.failed


def _rows_of(
    db: sqlite3.Connection, table: str, columns: Iterable[str], numbers: Iterable[int]
) -> dict[int, list[tuple[Any, ...]]]:
    """Return the rows of the runs `numbers`, by number."""
    id_ = "step" if table == "used" else "id"
    rows = db.execute(
        f"select value, {', '.join(f't.{name}' for name in columns)} from json_each(?)"
        f" cross join {table} t on t.{id_} >= value << {SHIFT} and t.{id_} < value + 1 << {SHIFT}",
        (json.dumps(list(numbers)),),
    )
    found: dict[int, list[tuple[Any, ...]]] = {}
    for number, *row in rows:
        found.setdefault(number, []).append(tuple(row))
    return found


def _events(db: sqlite3.Connection, number: int) -> list["_EventRow"]:
    rows = _rows_of(db, "event", _EventRow._fields, [number]).get(number, [])
    return [_EventRow(*row) for row in rows]


def _created(event: "_EventRow") -> float:
    return event.created


def _raw(db: sqlite3.Connection, id_: int) -> bytes:
    (value,) = db.execute("select value from event_raw where id = ?", (id_,)).fetchone()
    return _unpacked(value)


def _span(number: int) -> tuple[int, int]:
    """The ids of a run's events and steps: from, and below."""
    return number << SHIFT, number + 1 << SHIFT


def _get(db: sqlite3.Connection, name: str) -> Any:
    row = db.execute("select value from about where name = ?", (name,)).fetchone()
    return None if row is None else row[0]


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("begin immediate")
    try:
        yield
    except BaseException:
        db.execute("rollback")
        raise
    db.execute("commit")


@functools.lru_cache(maxsize=1000)
def _day(number: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(number * 86400))


def _inode(path: pathlib.Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _is_damage(error: Exception) -> bool:
    """Whether the file is to be made anew: not where it is locked, or the disk is full."""
    if not isinstance(error, sqlite3.Error):
        return True
    # A file that was cut is an I/O error. The last is what FTS5 says of pages of something else.
    codes = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR)
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (*codes, sqlite3.SQLITE_ERROR)


def _quiet(_: int, __: int) -> None:
    """Nobody looks on."""
