"""The read model: runs and their events by trace, read from the topics, never on the hot path."""

import contextlib
import dataclasses
from typing import Any

from penstock.broker.contract import Broker, Found
from penstock.errors import MalformedEvent, NotFound
from penstock.project.chains import Chain
from penstock.project.project import Project
from penstock.record import cancels, events
from penstock.record import dead_letters as dead_letter_records
from penstock.record.dead_letters import DeadLetter
from penstock.record.events import Event
from penstock.settings import Settings

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
class Run:
    """One journey through a pipeline, as the topics tell it: its events in the order in which
    they were made, and its dead letters."""

    trace_id: str
    pipeline: str
    entries: tuple[Entry, ...]
    dead_letters: tuple[DeadLetter, ...]
    cancelled: bool = False
    #: The pipeline's topic for what its agents did, which is no part of what they made.
    telemetry: str | None = None

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
    def last(self) -> Entry:
        """The event that was made last, telemetry left aside."""
        made = (entry for entry in reversed(self.entries) if entry.topic != self.telemetry)
        return next(made, self.entries[-1])

    @property
    def answer(self) -> Any:
        """The part that was made last."""
        parts = self.last.event.parts
        return parts.get(self.last.topic, next(reversed(parts.values()), None))

    @property
    def is_cut(self) -> bool:
        """Whether a model stopped before the end of something in it."""
        return any(entry.event.usage and entry.event.usage.cut for entry in self.entries)

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
            for chain in chains:
                for topic in chain.topics:
                    readers = [stage.name for stage in chain.stages if stage.reads == topic]
                    for record in self.broker.find(topic, key):
                        for entry in self._entry(record, readers):
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
            events_ = sorted(_once(entries.get(trace_id, [])), key=lambda one: one.event.created)
            dead = tuple(dead_letters.get(trace_id, ()))
            pipeline = events_[0].event.pipeline if events_ else dead[0].pipeline
            known = self.project.chains.get(pipeline)
            telemetry = None if known is None else known.telemetry
            runs.append(
                Run(trace_id, pipeline, tuple(events_), dead, trace_id in cancelled, telemetry)
            )
        return runs

    def _entry(self, record: Found, readers: list[str]) -> list[Entry]:
        try:
            event = events.load(record.value)
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
            dead_letter = dead_letter_records.load(record.value)
            found[dead_letter.id] = (record, dead_letter)
        return sorted(found.values(), key=lambda pair: pair[1].failed)


def _once(entries: list[Entry]) -> list[Entry]:
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
