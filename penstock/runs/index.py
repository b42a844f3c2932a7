"""The index: runs and their steps in one SQLite file, to be listed, searched and summed.

It is filled by following the topics from a stored cursor, on either broker, and never by a worker's
hot path. Nothing in it is the only copy: a file that is damaged, of another version or of another
broker is deleted and filled anew.

`index_file` has its tables, `filling` writes into them what stands on the topics, `settling`
computes states and sums from that, and here is what is asked of it.
"""

import contextlib
import dataclasses
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from penstock.broker.contract import Broker
from penstock.errors import NotFound
from penstock.project.project import Project
from penstock.record import dead_letters, events
from penstock.record.dead_letters import REPLAYED, DeadLetter
from penstock.record.events import as_trace_id
from penstock.record.steps import StepRecord
from penstock.runs.filling import Filling, Progress
from penstock.runs.index_file import (
    COLUMNS,
    DAMAGE,
    SHIFT,
    VERSION,
    EventRow,
    IndexFile,
    about,
    explained,
    is_damage,
    rows_of,
    span,
    unbarred,
    unpack,
)
from penstock.runs.runs import RUNNING, Entry, Run, once
from penstock.runs.settling import Forgetting, Readers, Settling, StepRow
from penstock.settings import Settings

__all__ = ["COSTS_BY", "Bound", "CostRow", "Filter", "Index", "Progress", "RunRow"]

#: Seconds between looks at what retention has deleted.
FORGET_EVERY_S = 60.0
#: Characters of a trace id that are enough to look for one.
LEAST_PREFIX = 4
#: Runs that are named when a prefix is of several.
NAMED = 5
#: Rows that are taken together to find runs by; where a tag or a word has more, runs are asked.
FEW = 20_000

T = TypeVar("T")

_step = msgspec.json.Decoder(StepRecord)


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


class Index:
    """The index of one app on one broker. Methods block, and may be called in any thread."""

    def __init__(self, settings: Settings, project: Project, broker: Broker) -> None:
        self.path = settings.data / "index.db"
        self.project = project
        self.broker = broker
        self.forget_every_s = FORGET_EVERY_S
        url = settings.redact(settings.broker_url)
        of = json.dumps([VERSION, settings.app_id, url, settings.topic_prefix])
        # Two, so that nobody who reads waits for what is taken in.
        self._filler = IndexFile(self.path, of)
        self._reader = IndexFile(self.path, of)
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        plan = project.plan(settings.app_id)
        makes = {stage.name: stage.makes for stage in project.stages}
        pipelines = {
            topic: chain.name for chain in project.chains.values() for topic in chain.topics
        }
        self._readers = Readers(self._filler, plan, broker)
        self._filling = Filling(self._filler, plan, broker, makes)
        self._settling = Settling(self._filler, self._readers, pipelines)
        self._forgetting = Forgetting(self._filler, broker)

    def close(self) -> None:
        # One after the other: whoever reads may have to wait for whoever fills.
        with self._lock:
            self._filler.close()
        with self._reading:
            self._reader.close()

    # -- filling

    def refresh(self, progress: Progress | None = None) -> None:
        """Take in what was written since, by whatever process: afterwards the index is as the
        topics were when this was called, or later. `progress` is called with the records that were
        read and those that there are. Only one process does it at a time, and others wait. Raises
        `BrokerUnavailable`, also where the file cannot be written."""
        with self._lock, explained(self.path), self._filler.exclusive():
            try:
                self._refresh(progress or _quiet)
            except DAMAGE as exc:
                if not is_damage(exc):
                    raise
                self._filler.delete()
                self._refresh(progress or _quiet)

    def _make_anew(self) -> None:
        """The file is deleted and filled anew."""
        with self._lock, explained(self.path), self._filler.exclusive():
            self._filler.delete()
            self._refresh(_quiet)

    def _refresh(self, progress: Progress) -> None:
        self._filler.open(make=True)
        self._readers.note()
        self._filling.follow(self._readers.topics, progress)
        self._forgetting.forget(self.forget_every_s)
        self._settling.look_again()
        if self._settling.settle(with_broker=False):
            # The broker says that an event is done at a time when its outputs can be read here.
            with self.broker.snapshot():
                self._filling.follow(self._readers.topics, _quiet)
                self._settling.settle(with_broker=True)

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
        rows = rows_of(db, "step", StepRow._fields[:3], [number]).get(number, [])
        finished: Any = set(rows)
        waits = {one.id: self._readers.waits(one, finished) for one in made}
        since = about(db, "since")
        asked = [
            one for one in made if waits[one.id] and not self._readers.is_record_due(one, since)
        ]
        if asked:
            with self.broker.snapshot():
                waits |= {
                    one.id: self._readers.wait_on_broker(db, one, waits[one.id]) for one in asked
                }
        raws = dict(db.execute("select * from event_raw where id >= ? and id < ?", span(number)))
        of_dead = db.execute("select value from dead where n = ?", (number,)).fetchall()
        entries = [
            Entry(
                *(one.topic, one.part, one.offset),
                events.load(unpack(raws[one.id])),
                tuple(waits[one.id]),
            )
            for one in made
        ]
        found = (dead_letters.load(unpack(raw)) for (raw,) in of_dead)
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
        found = [_step.decode(unpack(raw)) for (raw,) in rows]
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
        with self._reading, explained(self.path):
            try:
                return self._asked(question)
            except DAMAGE as exc:
                if not is_damage(exc):
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
    fields |= {name: unbarred(fields[name]) for name in ("cards", "models")}
    return RunRow(**fields | {"number": fields.pop("n"), "tags": json.loads(fields["tags"])})


def _failed(dead_letter: DeadLetter) -> float:
    return dead_letter.failed


def _events(db: sqlite3.Connection, number: int) -> list[EventRow]:
    rows = rows_of(db, "event", EventRow._fields, [number]).get(number, [])
    return [EventRow(*row) for row in rows]


def _quiet(_: int, __: int) -> None:
    """Nobody looks on."""
