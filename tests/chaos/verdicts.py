"""The verdict over a trial: what came of its runs and of its calls."""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from penstock.record.steps import DONE, StepRecord
from tests.chaos.evidence import KILL, READERS, TERM, TOPICS, Death, File, Repeat, Stored
from tests.chaos.table import Row


@dataclasses.dataclass
class Verdict:
    """What happened to the runs and to the calls of a trial. Empty `faults`: promise kept."""

    runs: int
    deaths: list[Death]
    lost: int
    calls: int
    repeats: list[Repeat]
    recovery_s: list[float]
    faults: list[str]

    def count(self, *hows: str) -> int:
        return sum(death.how in hows for death in self.deaths)

    @property
    def recorded(self) -> int:
        return sum(repeat.recorded for repeat in self.repeats)

    @property
    def answered_ms(self) -> list[float]:
        """For each call that was paid for twice: its answer's age when the worker died."""
        return [r.answered_ms for r in self.repeats if not r.recorded and r.answered_ms is not None]

    @property
    def in_flight(self) -> int:
        """Calls made again that were neither recorded nor answered."""
        return len(self.repeats) - self.recorded - len(self.answered_ms)

    def row(self) -> Row:
        return {
            "kills": [self.count(KILL)],
            "terms": [self.count(TERM)],
            "runs": [self.runs],
            "calls": [self.calls],
            "lost": [self.lost],
            "recorded": [self.recorded],
            "answered": [len(self.answered_ms)],
            "in flight": [self.in_flight],
            "recovery_s": self.recovery_s,
            "answered_ms": self.answered_ms,
        }

    def keeps_the_promise(self) -> None:
        """Nothing was lost and nothing recorded was paid for twice; else a failure that tells."""
        assert not self.faults, "\n".join([f"{len(self.faults)} faults:", *self.faults[:40]])


def check_calls(wanted: dict[str, int], lines: list[dict[str, Any]]) -> list[str]:
    """Each run asked so many different questions: one that it asked in other words after a crash
    would be a call paid for twice under another name."""
    asked = collections.defaultdict(set)
    for line in lines:
        if line["phase"] == "asked":
            asked[line["trace"]].add(line["key"])
    return [
        f"run {trace_id} made {len(asked[trace_id])} different calls, not {count}"
        for trace_id, count in wanted.items()
        if len(asked[trace_id]) != count
    ]


def check_stories(
    submitted: Sequence[str], events: Iterable[Stored], lines: list[dict[str, Any]]
) -> tuple[int, list[str]]:
    """How many runs do not have one event on each topic, and all that is wrong with the runs: each
    event is made from the one before it, from an answer that the server gave to that run."""
    stories: dict[str, dict[str, list[Stored]]] = collections.defaultdict(dict)
    for stored in events:
        stories[stored.key].setdefault(stored.topic, []).append(stored)
    given = {(line["trace"], line["key"][:8]) for line in lines if line["phase"] == "answered"}
    lost, faults = 0, []
    for trace_id in submitted:
        story = stories[trace_id]
        counts = {topic: len(story.get(topic, ())) for topic in TOPICS}
        if counts != dict.fromkeys(TOPICS, 1):
            lost += 1
            faults.append(f"run {trace_id} has {counts}")
            continue
        before = None
        for topic in TOPICS:
            (stored,) = story[topic]
            if stored.event.get("parent_id") != before:
                faults.append(f"run {trace_id}: {topic} was not made from the event before it")
            if topic != TOPICS[0] and (trace_id, stored.call) not in given:
                faults.append(f"run {trace_id}: {topic} has an answer that no call of it gave")
            before = stored.event["id"]
    return lost, faults


def check_records(
    trace_id: str, records: Sequence[StepRecord], lines: list[dict[str, Any]]
) -> list[str]:
    """The records of a run's steps tell its story: each step has ended once, and each of its calls
    was paid once, made there or by a worker that died before."""
    stages = collections.Counter(one.stage for one in records if one.end == DONE)
    faults = []
    if stages != dict.fromkeys(READERS.values(), 1):
        faults.append(f"run {trace_id} has the records {dict(stages)}")
    paid = [call.key for one in records for call in one.paid]
    answered = {line["key"] for line in lines if line["trace"] == trace_id}
    if len(paid) != len(answered):
        faults.append(f"run {trace_id} has {len(paid)} paid calls on record, of {len(answered)}")
    for one in records:
        if not one.created <= one.taken <= one.ended:
            faults.append(f"run {trace_id}: {one.stage} ended before it began")
    return faults


def check_repeats(repeats: list[Repeat]) -> list[str]:
    """Only what was in flight or not yet recorded at a `kill -9` may be paid for again."""
    faults = []
    for repeat in repeats:
        call = f"call {repeat.key[:12]} of run {repeat.trace}"
        if repeat.recorded:
            faults.append(f"{call} was recorded, and paid for again")
        elif repeat.death is None:
            faults.append(f"{call} was made twice by one worker")
        elif repeat.death.how == TERM:
            faults.append(f"{call} was cut off by a SIGTERM, which waits for it")
    return faults


def check_event_log(folder: pathlib.Path, file: File, deaths: int) -> list[str]:
    """A line of the event log says that the record exists; the last ones may be missing."""
    there = {(s.topic, s.partition, s.offset): s.event["id"] for s in file.events}
    faults, torn = [], 0
    for log in folder.glob("broker_interactions.json*"):
        for text in log.read_text(errors="replace").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                torn += 1
                continue
            location = (line["topic"], line["partition"], line["offset"])
            known = line["topic"] in TOPICS and line["event"] == "produce"
            if known and there.get(location) != line["message"]["id"]:
                faults.append(f"the event log has a record that does not exist: {location}")
    if torn > deaths:
        faults.append(f"{torn} lines of the event log are torn")
    return faults
