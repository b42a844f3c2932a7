"""Evidence: what the embedded file and the model server's log say, read without Penstock's code.

A call is known by the server's hash of its request. The server puts the hash's first digits into
each answer, so the file tells by itself which calls it holds: journal entries the whole response
with its id, events the text.
"""

import collections
import contextlib
import dataclasses
import json
import pathlib
import re
import sqlite3
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

SHIFT = 40
#: The topics of topics/story.yaml in the order of a run; all but the first hold an answer.
TOPICS = ("premise", "plot", "story", "critique", "final")
#: How workers die.
KILL, TERM, END = "kill -9", "SIGTERM", "kill -9 after the end"
READERS = {
    "premise": "plotter_agent_stream",
    "plot": "writer_agent_stream",
    "story": "critic_agent_stream",
    "critique": "writer_revise_stream",
    "final": "editor_output_stream",
}
ANSWER = re.compile(r"\b[0-9a-f]{8}\b")
RESPONSE_ID = re.compile(rb'"chatcmpl-([0-9a-f]{12})-\d+"')

#: How the keys begin of what the journal holds and is no answer: names of jobs that are taken.
CLAIMS = ".claims/"

#: A call as the file names it: its trace and 8 digits of its hash (an event), or 12 (an entry).
Name = tuple[str, str]


@contextlib.contextmanager
def reading(file: pathlib.Path) -> Iterator[sqlite3.Connection]:
    """The file as a reader that can change nothing, not even by a checkpoint as it closes."""
    with contextlib.closing(
        sqlite3.connect(f"file:{file}?mode=ro", uri=True, isolation_level=None, timeout=10)
    ) as db:
        db.execute("begin")  # one view of all tables
        yield db


@dataclasses.dataclass(frozen=True)
class Stored:
    """An event as it stands on its topic."""

    topic: str
    partition: int
    offset: int
    key: str
    event: dict[str, Any]

    @property
    def call(self) -> str | None:
        """The first digits of the hash of the call whose answer this is."""
        part = self.event["parts"].get(self.topic)
        text = part.get("critique", "") if isinstance(part, dict) else part
        found = ANSWER.search(text) if self.topic != "premise" else None
        return found[0] if found else None


@dataclasses.dataclass
class File:
    """All that matters in the file at one moment."""

    events: list[Stored]
    entries: dict[str, bytes]
    positions: dict[tuple[str, int], tuple[int, bytes]]
    dead_letters: list[dict[str, Any]]
    step_records: list[dict[str, Any]]
    #: Offset after the last record, by topic and partition.
    ends: dict[tuple[str, int], int]
    #: Who reads a topic.
    readers: Mapping[str, str]
    damage: str

    @property
    def durable(self) -> set[str]:
        """The calls whose answers are durable: `entry HASH`, or `TRACE HASH` of a step's output."""
        names = {f"{stored.key} {stored.call}" for stored in self.events if stored.call}
        for key, value in self.entries.items():
            if key.startswith(CLAIMS) or key.endswith("/pin"):
                continue
            found = RESPONSE_ID.search(value)
            assert found is not None, f"a journal entry without a response: {value!r}"
            names.add(f"entry {found[1].decode()}")
        return names

    @property
    def unfinished(self) -> dict[str, int]:
        """How many records of each topic its reader has not finished."""
        left: collections.Counter[str] = collections.Counter()
        for (topic, partition), end in self.ends.items():
            if topic in self.readers:
                left[topic] += end - self._finished(topic, partition)
        return {topic: count for topic, count in left.items() if count}

    def _finished(self, topic: str, partition: int) -> int:
        low, marks = self.positions.get((topic, partition), (0, b""))
        return low + count_marks(marks)

    def _is_finished(self, stored: Stored) -> bool:
        low, marks = self.positions.get((stored.topic, stored.partition), (0, b""))
        above = zlib.decompress(marks) if marks else b""
        index = stored.offset - low
        return index < 0 or above[index : index + 1] == b"\1"

    def written(self, topic: str) -> int:
        """How many records the topic was ever given; retention may have deleted some."""
        return sum(end for (name, _), end in self.ends.items() if name == topic)

    @property
    def deleted(self) -> int:
        """How many events retention has taken."""
        return sum(self.written(topic) for topic in TOPICS) - len(self.events)

    def half_steps(self) -> list[str]:
        """What would be wrong with this file if a step's end were not one transaction."""
        faults = [] if self.damage == "ok" else [f"the file is damaged: {self.damage}"]
        finished = sum(
            self._finished(topic, partition)
            for topic, partition in self.ends
            if topic in TOPICS[:-1]
        )
        made = sum(self.written(topic) for topic in TOPICS[1:]) + len(self.dead_letters)
        if made != finished:
            faults.append(f"{finished} steps are finished, and they made {made} outputs")
        ended = [
            (one["stage"], one["event"], one.get("replay", 0))
            for one in self.step_records
            if one["topic"] in TOPICS[:-1]
        ]
        if len(set(ended)) != len(ended):
            faults.append(f"{len(ended) - len(set(ended))} steps have two records")
        if not self.deleted and len(ended) != finished:
            faults.append(f"{finished} steps are finished, and {len(ended)} have a record")
        over = {s.event["id"] for s in self.events if self._is_finished(s)}
        over -= {dead_letter.get("event_id") for dead_letter in self.dead_letters}
        for key in self.entries:
            if key.split("/")[1] in over:
                faults.append(f"a journal entry outlived its step: {key}")
        return faults


def count_marks(marks: bytes) -> int:
    return sum(zlib.decompress(marks)) if marks else 0


def read_file(file: pathlib.Path, readers: Mapping[str, str] = READERS) -> File:
    """The file, with the positions of `readers`."""
    with reading(file) as db:
        parts = {
            number: (topic, part)
            for number, topic, part in db.execute("select id, topic, part from part")
        }
        events, dead_letters, step_records = [], [], []
        ends: collections.Counter[tuple[str, int]] = collections.Counter()
        for part_id, floor in db.execute("select id, floor from part"):
            ends[parts[part_id]] = floor
        for id_, key, value in db.execute("select id, key, value from record order by id"):
            topic, partition = parts[id_ >> SHIFT]
            offset = id_ & ((1 << SHIFT) - 1)
            ends[topic, partition] = max(ends[topic, partition], offset + 1)
            if topic.endswith("dead-letters"):
                dead_letters.append(json.loads(value))
            elif topic.endswith("-steps"):
                step_records += json.loads(value)
            else:
                events.append(Stored(topic, partition, offset, key.decode(), json.loads(value)))
        positions = {
            parts[part]: (low, marks)
            for reader, part, low, marks in db.execute("select * from position")
            if readers.get(parts[part][0]) == reader
        }
        # The texts of cards stay until retention finds that no step began with them.
        entries = dict(db.execute("select key, value from journal where key not like '.texts/%'"))
        (damage,) = db.execute("pragma integrity_check").fetchone()
        return File(
            *(events, entries, positions, dead_letters, step_records),
            *(dict(ends), readers, damage),
        )


def read_progress(file: pathlib.Path) -> tuple[int, int]:
    """The steps that are finished and the runs that have their last event, cheaply."""
    with reading(file) as db:
        finished = 0
        for low, marks in db.execute("select low, marks from position"):
            finished += low + count_marks(marks)
        (finals,) = db.execute(
            "select count(*) from record, part where part.topic = 'final'"
            f" and record.id >= part.id << {SHIFT} and record.id < (part.id + 1) << {SHIFT}"
        ).fetchone()
        return finished, finals


def count_in_flight(file: pathlib.Path) -> int:
    """Events that the worker is at work on, or was when it died: the slots of its own file."""
    slots = file.with_name(file.name + ".in-flight")
    if not slots.exists():
        return 0
    raw = slots.read_bytes()
    pairs = struct.iter_unpack("<QQ", raw[: len(raw) // 16 * 16])
    return sum(pair != (0, 0) for pair in pairs)


@dataclasses.dataclass(frozen=True)
class Death:
    """The end of one worker, and what was durable by then. `line` is how much of the server's log
    there was: what was asked after it was asked by a later worker."""

    how: str
    t: float
    line: int
    durable: frozenset[str]
    in_flight: int
    #: What was half done in the file, which must be nothing.
    faults: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Repeat:
    """A call that was made again. `answered_ms` is how long before the worker's death its answer
    had left the server; None when it had not."""

    key: str
    trace: str
    death: Death | None
    recorded: bool
    answered_ms: float | None


def find_repeats(lines: list[dict[str, Any]], deaths: list[Death]) -> list[Repeat]:
    """Every call that the server's log has more than once, and what was known of it before."""
    answered = {line["n"]: line["t"] for line in lines if line["phase"] == "answered"}
    last: dict[str, tuple[int, int]] = {}
    repeats = []
    for index, line in enumerate(lines):
        if line["phase"] != "asked":
            continue
        key = line["key"]
        if key in last:
            before, n = last[key]
            names = {f"entry {key[:12]}", f"{line['trace']} {key[:8]}"}
            recorded = any(d.line <= index and names & d.durable for d in deaths)
            between = [d for d in deaths if before < d.line <= index]
            death = between[0] if between else None
            t = answered.get(n)
            # An answer to a worker that had just died is one to a call in flight.
            lag_ms = None
            if death is not None and t is not None and t <= death.t:
                lag_ms = (death.t - t) * 1000
            repeats.append(Repeat(key, line["trace"], death, recorded, lag_ms))
        last[key] = (index, line["n"])
    return repeats
