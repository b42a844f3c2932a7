"""The read model: runs and their events by trace, read from the topics, never on the hot path."""

import dataclasses
from typing import Any

from app import cancels, deadletters, events
from app.broker.reading import Found, Reader
from app.deadletters import DeadLetter
from app.errors import MalformedEvent, NotFound
from app.events import Event
from app.project import Project
from app.settings import Settings

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
    letters: tuple[DeadLetter, ...]
    cancelled: bool = False

    @property
    def state(self) -> str:
        """`running` while a stage has an event to finish; then `done`, `cancelled` by somebody, or
        `dead` when one of them ended as a dead letter."""
        if any(entry.waits_for for entry in self.entries):
            return RUNNING
        if self.cancelled:
            return CANCELLED
        return DEAD if self.letters else DONE

    @property
    def answer(self) -> Any:
        """The part that was made last."""
        event = self.entries[-1].event
        return event.parts.get(self.entries[-1].topic, next(reversed(event.parts.values()), None))

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

    def __init__(self, settings: Settings, project: Project, reader: Reader) -> None:
        self.settings = settings
        self.project = project
        self.reader = reader

    def read(self, trace_id: str) -> Run:
        """The run as it is now. Raises `NotFound`."""
        key = trace_id.encode()
        entries = []
        with self.reader.snapshot():
            for chain in self.project.chains.values():
                for topic in chain.topics:
                    readers = [stage.name for stage in chain.stages if stage.reads == topic]
                    for record in self.reader.find(topic, key):
                        entries += self._entry(record, readers)
            found = self.letters(key)
            cancelled = self.reader.find(cancels.topic_name(self.settings.app_id), key)
        letters = tuple(
            letter
            for _, letter in found
            if letter.trace_id == trace_id and letter.resolved != deadletters.REPLAYED
        )
        entries = _once(entries)
        if not entries and not letters:
            raise NotFound(f"there is no run {trace_id} on the topics of this project")
        entries.sort(key=lambda entry: entry.event.created)
        pipeline = entries[0].event.pipeline if entries else letters[0].pipeline
        return Run(trace_id, pipeline, tuple(entries), letters, bool(cancelled))

    def _entry(self, record: Found, readers: list[str]) -> list[Entry]:
        try:
            event = events.load(record.value)
        except MalformedEvent:
            return []  # its dead letter tells of it
        waits_for = tuple(name for name in readers if not self.reader.is_done(name, record))
        return [Entry(record.topic, record.partition, record.offset, event, waits_for)]

    def letters(self, key: bytes | None = None) -> list[tuple[Found, DeadLetter]]:
        """The dead letters, of one key or of all, in the order in which they were written; each as
        it was written last."""
        topic = deadletters.topic_name(self.settings.app_id)
        found = {}
        for record in self.reader.find(topic, key):
            letter = deadletters.load(record.value)
            found[letter.id] = (record, letter)
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
