"""The read model: runs and their events by trace, read from the topics, never on the hot path."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from typing import Any

import msgspec

from penstock.broker.contract import Broker, Found
from penstock.errors import MalformedEvent, NotFound
from penstock.project.chains import Chain, StageSpec
from penstock.project.project import Project
from penstock.record import cancels, events
from penstock.record import dead_letters as dead_letter_records
from penstock.record.dead_letters import DeadLetter
from penstock.record.events import Event
from penstock.settings import Settings

log = logging.getLogger(__name__)

RUNNING, DONE, DEAD, CANCELLED = "running", "done", "dead", "cancelled"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One event of a run: where it stands, and the stages that have not finished it yet."""

    topic: str
    partition: int
    offset: int
    event: Event
    waits_for: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Made:
    """A part that an agent or a step made, and the event that holds it. `decides` says that it
    chose a branch of the chain."""

    name: str
    entry: Entry
    decides: bool = False

    @property
    def value(self) -> Any:
        return self.entry.event.parts[self.name]


@dataclasses.dataclass(frozen=True)
class Run:
    """One journey through a pipeline, as the topics tell it: its events in the order in which
    they were made, and its dead letters. `chain` is the pipeline's, as it is now."""

    trace_id: str
    pipeline: str
    entries: tuple[Entry, ...]
    dead_letters: tuple[DeadLetter, ...]
    cancelled: bool = False
    chain: Chain | None = None

    @property
    def state(self) -> str:
        """`running` while a stage has an event to finish; then `done`, `cancelled` by somebody, or
        `dead` when one of them ended as a dead letter."""
        if any(entry.waits_for for entry in self.entries):
            return RUNNING
        if self.cancelled:
            return CANCELLED
        return DEAD if self.dead_letters else DONE

    @property
    def made(self) -> list[Made]:
        """What agents and steps made, in its order: neither what was submitted, nor telemetry."""
        stages = {stage.name: stage for stage in self.chain.stages} if self.chain else {}
        found = []
        for entry in self.entries:
            event = entry.event
            # A fork begins with an event that was made, and has no parent in its run.
            if self._is_telemetry(entry) or (event.parent_id is None and event.usage is None):
                continue
            stage = stages.get(event.stage)
            names = (stage.makes if stage else "", entry.topic, next(reversed(event.parts)))
            name = next(name for name in names if name in event.parts)
            found.append(Made(name, entry, stage is not None and stage.branches is not None))
        return found

    @property
    def result(self) -> Made | None:
        """What the run was for: the part that its chain names, or that made the last event on the
        topic that it names. Without a name, the part that was made last by an agent or a step whose
        answer decided no branch, or else the last decision. None when nothing was made of that."""
        made = self.made
        name = self.chain.result if self.chain is not None else None
        if name is not None:
            of_it = [one for one in made if one.name == name]
            # Of a fork, or a run whose first events are deleted, later events still hold it.
            of_it = of_it or [one for one in made if name in one.entry.event.parts]
            if of_it:
                return dataclasses.replace(of_it[-1], name=name)
            while made and made[-1].entry.topic != name:
                made.pop()
        plain = (one for one in reversed(made) if not one.decides)
        return next(plain, made[-1] if made else None)

    @property
    def answer(self) -> Any:
        """The value of the run's `result`."""
        return None if self.result is None else self.result.value

    @property
    def comments(self) -> list[Made]:
        """Where the chain names its result, what was made since, decisions left aside."""
        result, made = self.result, self.made
        if result is None or self.chain is None or self.chain.result is None:
            return []
        since = made[[one.entry for one in made].index(result.entry) + 1 :]
        last = {one.name: one for one in since if not one.decides and one.name != result.name}
        return list(last.values())

    @property
    def ends(self) -> list[str]:
        """Where the run ended early, and of one that made nothing also at what last step, a
        sentence each: of these no event says what was made."""
        anything = bool(self.made)
        return [
            f"'{stage.name}' ({stage.does}) {_end(stage, entry)}"
            for entry in self.entries
            for stage in self._ended_by(entry)
            if stage.targets or not anything
        ]

    def _ended_by(self, entry: Entry) -> Iterator[StageSpec]:
        """The stages that have finished the event of `entry` and written nothing from it."""
        children = self.children(entry.event.id)
        for stage in self.chain.stages if self.chain is not None else ():
            if stage.reads != entry.topic or stage.name in entry.waits_for:
                continue
            if not any(
                one.event.stage == stage.name and one.topic in stage.targets for one in children
            ):
                yield stage

    @property
    def is_cut(self) -> bool:
        """Whether a model stopped before the end of something in it."""
        return any(entry.event.usage and entry.event.usage.cut for entry in self.entries)

    def _is_telemetry(self, entry: Entry) -> bool:
        return self.chain is not None and entry.topic == self.chain.telemetry

    def children(self, parent_id: str | None) -> list[Entry]:
        known = {entry.event.id for entry in self.entries}
        return [
            entry
            for entry in self.entries
            if entry.event.parent_id == parent_id
            # What is left of a run whose first events retention has deleted hangs from the root.
            or (parent_id is None and entry.event.parent_id not in known)
        ]


class Runs:
    """Reads runs from the topics of a project."""

    def __init__(self, settings: Settings, project: Project, broker: Broker) -> None:
        self.settings = settings
        self.project = project
        self.broker = broker

    def read(self, trace_id: str) -> Run:
        """The run as it is now. Raises `NotFound`."""
        runs = self._read(list(self.project.chains.values()), trace_id.encode())
        run = next((run for run in runs if run.trace_id == trace_id), None)
        if run is None:
            raise NotFound(f"there is no run {trace_id} on the topics of this project")
        return run

    def read_all(self, pipeline: str) -> list[Run]:
        """Every run of `pipeline` that is kept, each topic read once."""
        runs = self._read([self.project.chain(pipeline)], None)
        return [run for run in runs if run.pipeline == pipeline]

    def _read(self, chains: list[Chain], key: bytes | None) -> list[Run]:
        """The runs of `key`, or all, as they stood at one moment."""
        entries: dict[str, list[Entry]] = {}
        dead_letters: dict[str, list[DeadLetter]] = {}
        with self.broker.snapshot():
            readers: dict[str, list[str]] = {
                topic: [stage.name for stage in chain.stages if stage.reads == topic]
                for chain in chains
                for topic in chain.topics
            }
            # What was on its way when a chain was edited is not over.
            readers |= {topic: list(names) for topic, names in self.broker.gone().items()}
            for topic, names in readers.items():
                for record in self.broker.find(topic, key):
                    for entry in self._entry(record, names):
                        by = record.key.decode(errors="replace")
                        entries.setdefault(by, []).append(entry)
            found = self.dead_letters(key)
            cancelled = {
                record.key.decode(errors="replace")
                for record in self.broker.find(cancels.topic_name(self.settings.app_id), key)
            }
        for _, dead_letter in found:
            if dead_letter.resolved != dead_letter_records.REPLAYED:
                dead_letters.setdefault(dead_letter.trace_id, []).append(dead_letter)
        runs = []
        for trace_id in dict.fromkeys([*entries, *dead_letters]):
            events_ = sorted(once(entries.get(trace_id, [])), key=lambda one: one.event.created)
            dead = tuple(dead_letters.get(trace_id, ()))
            pipeline = dead[0].pipeline if dead else ""
            known = self.project.chains.get(pipeline)
            if events_:
                # Not as the event says, unless no chain has its topic any more: another program
                # may have written it.
                pipeline = events_[0].event.pipeline
                known = self.project.chains.get(pipeline)
                known = next((one for one in chains if events_[0].topic in one.topics), known)
                pipeline = pipeline if known is None else known.name
            is_cancelled = trace_id in cancelled
            runs.append(Run(trace_id, pipeline, tuple(events_), dead, is_cancelled, known))
        return runs

    def _entry(self, record: Found, readers: list[str]) -> list[Entry]:
        try:
            event = events.load(record.value)
            events.require_key(event, record.key)
        except MalformedEvent:
            return []  # its dead letter tells of it
        waits_for = tuple(name for name in readers if not self.broker.is_done(name, record))
        return [Entry(record.topic, record.partition, record.offset, event, waits_for)]

    def made_twice(self, run: Run) -> int:
        """How many events of the run were made a second time, by another answer: an event that was
        only sent again, or replayed by somebody, is the same."""
        made: dict[tuple[str, str], set[tuple[float, Any]]] = {}
        for topic in self.project.chain(run.pipeline).topics:
            for record in self.broker.find(topic, run.trace_id.encode()):
                with contextlib.suppress(MalformedEvent):
                    event = events.load(record.value)
                    if event.parent_id is not None and not event.replay:
                        what = (event.created, event.usage)
                        made.setdefault((topic, event.id), set()).add(what)
        return sum(len(what) - 1 for what in made.values())

    def dead_letters(self, key: bytes | None = None) -> list[tuple[Found, DeadLetter]]:
        """The dead letters, of one key or of all, in the order in which they were written; each as
        it was written last."""
        topic = dead_letter_records.topic_name(self.settings.app_id)
        found = {}
        for record in self.broker.find(topic, key):
            try:
                dead_letter = dead_letter_records.load(record.value)
            except (MalformedEvent, msgspec.DecodeError, UnicodeDecodeError) as exc:
                location = f"{topic}/{record.partition}/{record.offset}"
                log.warning("the record %s is left out, it is no dead letter: %s", location, exc)
                continue
            found[dead_letter.id] = (record, dead_letter)
        return sorted(found.values(), key=lambda pair: pair[1].failed)


def _end(stage: StageSpec, entry: Entry) -> str:
    if stage.branches is not None:
        ways = stage.branches.ends(stage.name, entry.event.rounds)
        return f"ended it by the outcome {' or '.join(map(repr, ways))}, which writes nothing"
    if stage.check is not None:
        return f"was not asked: the check '{stage.check}' ended it"
    if stage.writes is not None:
        return f"gave nothing for '{stage.writes}', which ended it"
    return "was its last step, which writes no topic"


def once(entries: list[Entry]) -> list[Entry]:
    """A replay stands on its topic a second time: it is the event that it was, and waits for whom
    either waits for."""
    found: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        key = (entry.topic, entry.event.id)
        if key in found:
            waits_for = dict.fromkeys(found[key].waits_for + entry.waits_for)
            entry = dataclasses.replace(entry, waits_for=tuple(waits_for))
        found[key] = entry
    return list(found.values())
