"""The index is filled: the topics are followed from a stored cursor, and written in batches."""

import concurrent.futures
import functools
import json
import logging
import math
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from penstock.broker.contract import Broker, Found, Plan
from penstock.broker.tp import TP
from penstock.errors import MalformedEvent
from penstock.journal import Call
from penstock.record import dead_letters, events, steps
from penstock.record.events import Event
from penstock.record.steps import StepRecord
from penstock.runs.index_file import (
    MOST_IN_RUN,
    SHIFT,
    Damaged,
    IndexFile,
    pack,
    rows_of,
    transaction,
)

log = logging.getLogger(__name__)

#: Records read and written in one transaction.
BATCH = 4000
#: Characters of the first line of a run's text.
LINE_CHARS = 120

Progress = Callable[[int, int], None]

_encode = msgspec.json.Encoder().encode


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
        for number, keys in rows_of(self._db, table, _KEYS[table], runs).items():
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
        with transaction(self._db):
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


class Filling:
    """Follows the topics of an app, and writes what they hold into `file`. `makes` is the part that
    each stage makes, by the stage's name."""

    def __init__(
        self, file: IndexFile, plan: Plan, broker: Broker, makes: Mapping[str, str]
    ) -> None:
        self._file = file
        self._plan = plan
        self._broker = broker
        self._makes = makes

    def follow(self, chain_topics: Iterable[str], progress: Progress) -> None:
        """Take in the topics, those of chains among them, up to where they end now."""
        db = self._file.open()
        own = [self._plan.dead_letters, self._plan.cancels, self._plan.steps]
        of_chains = [topic for topic in chain_topics if topic not in own]
        # What is said of an event stands on a topic after the event, and a step's record after its
        # outputs. So their ends are asked for in the other order, and none of them is missed.
        extents = self._broker.extents([*reversed(own), *of_chains])
        cursors = {
            TP(topic, part): (id_, next_)
            for topic, part, id_, next_ in db.execute("select * from cursor")
        }
        for tp, (id_, next_) in cursors.items():
            if next_ and (tp not in extents or extents[tp].id != id_ or extents[tp].end < next_):
                raise Damaged  # the topic was made anew, or a backup of it was restored
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
            found, after = self._broker.follow(spans, BATCH)
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
            if topic == self._plan.steps:
                return [(step, pack(_encode(step))) for step in steps.load(record.value)]
            if topic == self._plan.dead_letters:
                return [(dead_letters.load(record.value), pack(record.value))]
        except (MalformedEvent, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            location = f"{record.topic}/{record.partition}/{record.offset}"
            log.warning("the record %s is left out of the index: %s", location, exc)
            return []
        if topic == self._plan.cancels:
            return [record.key.decode(errors="replace")]
        try:
            event = events.load(record.value)
            events.require_key(event, record.key)
        except MalformedEvent:
            return []  # its dead letter tells of it
        return [(record, event, pack(record.value))]

    def _take(self, batch: _Batch, topic: str, found: Sequence[Any]) -> None:
        if topic == self._plan.steps:
            batch.load({step.trace_id for step, _ in found}, "step")
            for step, packed in found:
                self._take_step(batch, step, packed)
        elif topic == self._plan.dead_letters:
            batch.load({dead_letter.trace_id for dead_letter, _ in found}, None)
            for dead_letter, packed in found:
                number = batch.run(dead_letter.trace_id).number
                batch.has_dead.add(number)
                batch.dead.append((dead_letter.id, number, dead_letter.resolved, packed))
        elif topic == self._plan.cancels:
            batch.load(set(found), None)
            batch.cancelled |= {batch.run(trace_id).number for trace_id in found}
        else:
            batch.load({event.trace_id for _, event, _ in found}, "event")
            for one in found:
                self._take_event(batch, *one)

    def _take_event(self, batch: _Batch, record: Found, event: Event, packed: bytes) -> None:
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

    def _take_step(self, batch: _Batch, step: StepRecord, packed: bytes) -> None:
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


@functools.lru_cache(maxsize=1000)
def _day(number: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(number * 86400))
