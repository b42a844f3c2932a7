"""What the index of runs costs to fill and to ask: many runs, written straight into the file."""

import asyncio
import pathlib
import random
import time
import uuid
from collections.abc import Callable

from bench.figures import Options, Result, peak_mb
from bench.projects import PIPELINE, STAGES, write_project
from bench.worker import delete_topics, settings_of
from penstock.broker.contract import Row
from penstock.broker.kafka.records import journal_of
from penstock.client import Client
from penstock.journal import MODEL, Call
from penstock.record import events, steps
from penstock.record.events import Event, Usage, derive_id, first_event
from penstock.record.steps import StepRecord
from penstock.runs.index import Bound, Filter

#: Runs written in one transaction.
WRITTEN_AT_ONCE = 500
#: Steps that share a record, as those do that end at the same time.
SHARED = 40
#: Events between two looks of whoever follows a busy worker: a tenth of a second of 6,000/s.
LOOK_EVENTS = 600
#: Times that each question is asked, after one that warms up; the slowest counts.
TIMES = 5
#: Events of the one long run.
LONG = 500
#: Words of the texts, the frequent ones first, and characters of a text.
WORDS = 20_000
TEXT_CHARS = 1_000
#: One run in so many has a word that is in no other.
RARE = 1_000
MODEL_NAME = "openai/large"

chance = random.Random(7)


class Writer:
    """Writes runs as a worker would leave them: their events, and the records of their steps."""

    def __init__(self, client: Client) -> None:
        self._broker = client.broker
        self._steps = client.project.plan(client.settings.app_id).steps
        words = [f"w{number:04x}" for number in range(WORDS)]
        # Roughly as in any language: the second word is half as frequent as the first.
        weights = [1 / (number + 1) for number in range(WORDS)]
        self._words = chance.choices(words, weights, k=1_000_000)
        self.began = time.time() - 86400.0

    def text(self) -> str:
        """About `TEXT_CHARS` of words."""
        first = chance.randrange(len(self._words) - TEXT_CHARS)
        return " ".join(self._words[first : first + TEXT_CHARS // 5])[:TEXT_CHARS]

    def write(self, runs: int, loops: int = 1) -> list[str]:
        """Write so many runs that are done, each of which goes through the topics `loops` times.
        Returns their trace ids."""
        rows: list[Row] = []
        records: list[StepRecord] = []
        ids = []
        for _ in range(runs):
            self.began += 0.5
            rare = " rareword" if chance.randrange(RARE) == 0 else ""
            event = first_event(
                PIPELINE, {"t0": self.text() + rare}, str(uuid.uuid4()), tags={"customer": "42"}
            )
            ids.append(event.trace_id)
            for number in range(STAGES * loops):
                topic = f"t{number % STAGES}"
                if number:
                    event = self._next(event, number, topic)
                rows.append(Row(topic, event.key, events.dump(event)))
                records.append(self._record(event, number, topic))
        for first in range(0, len(records), SHARED):
            some = [steps.dump(one) for one in records[first : first + SHARED]]
            rows.append(Row(self._steps, b"", steps.joined(some)))
        self._broker.append(rows)
        return ids

    def _next(self, event: Event, number: int, topic: str) -> Event:
        return Event(
            id=derive_id(event.id, f"s{(number - 1) % STAGES}", topic),
            trace_id=event.trace_id, parent_id=event.id, pipeline=PIPELINE,
            stage=f"s{(number - 1) % STAGES}", parts=event.parts | {topic: self.text()},
            created=self.began + number, usage=Usage(
                model=MODEL_NAME, requests=1, input_tokens=300, output_tokens=200, seconds=0.9
            ),
            agent="writer", card="writer@0123456789ab", tags=event.tags,
        )  # fmt: skip

    def _record(self, event: Event, number: int, topic: str) -> StepRecord:
        at = self.began + number
        call = Call(
            MODEL, MODEL_NAME, f"{number:032x}-0", at, at + 0.9,
            input_tokens=300, output_tokens=200, cost=0.001, price="large 2026-11",
        )  # fmt: skip
        return StepRecord(
            trace_id=event.trace_id, event=event.id, pipeline=PIPELINE, stage=f"s{number % STAGES}",
            does="writer", card="writer@0123456789ab", topic=topic, partition=0, offset=0,
            created=at, taken=at, ended=at + 1, worker="bench", calls=[call],
        )  # fmt: skip


def _client(folder: pathlib.Path, options: Options) -> Client:
    project = folder / "project"
    if not project.exists():
        write_project(project, "step: instant")
    return Client(settings_of(folder, options))


def index_write(folder: pathlib.Path, options: Options) -> Result:
    """Write the runs. That is not measured."""
    client = _client(folder, options)
    writer = Writer(client)
    for _ in range(0, options["runs"], WRITTEN_AT_ONCE):
        writer.write(min(WRITTEN_AT_ONCE, options["runs"]))
    client.close()
    return {}


def index_fill(folder: pathlib.Path, options: Options) -> Result:
    """Fill the index from nothing, and then follow as a busy worker writes."""
    client = _client(folder, options)
    before = peak_mb()
    started, cpu = time.perf_counter(), time.process_time()
    client.index.refresh()
    seconds = time.perf_counter() - started
    result = {
        "rebuilt_s": seconds,
        "events_per_s": options["runs"] * STAGES / seconds,
        "cpu_s_per_1000": (time.process_time() - cpu) / (options["runs"] * STAGES) * 1000,
        "peak_mb": peak_mb(),
        "grown_mb": peak_mb() - before,
        "index_mb": client.index.path.stat().st_size / 1e6,
    }
    writer, followed = Writer(client), 0.0
    writer.began = time.time()
    for _ in range(options["looks"]):
        writer.write(LOOK_EVENTS // STAGES)
        started = time.perf_counter()
        client.index.refresh()
        followed += time.perf_counter() - started
    if options["looks"]:
        result["followed_per_s"] = options["looks"] * LOOK_EVENTS / followed
    client.close()
    if options.get("kafka"):
        plan = client.project.plan(client.settings.app_id)
        names = [*plan.topics, journal_of(plan.app_id)]
        asyncio.run(delete_topics(options["kafka"], names))
    return result


def index_ask(folder: pathlib.Path, options: Options) -> Result:
    """Ask the index, as the commands do."""
    client = _client(folder, options)
    writer = Writer(client)
    writer.began = time.time()
    (long,) = writer.write(1, LONG // STAGES)
    index = client.index
    index.refresh()
    found = index.find(limit=1000)
    dear, frequent = Bound(">", 1.0), "w0000 w0001"
    last = found[-1].page
    questions: dict[str, Callable[[], object]] = {
        "refresh": index.refresh,
        "list": lambda: index.find(),
        "page": lambda: index.find(after=last),
        "filter": lambda: index.find(Filter(pipeline=PIPELINE, state="done", card="writer")),
        "filter_none": lambda: index.find(Filter(model="nobody", cost=dear)),
        "filter_dead": lambda: index.find(Filter(state="dead")),
        "tag": lambda: index.find(Filter(tags={"customer": "42"})),
        "text_rare": lambda: index.find(Filter(text="rareword")),
        "text_frequent": lambda: index.find(Filter(text=frequent)),
        "text_none": lambda: index.find(Filter(text=f"{frequent} nowhere")),
        "text_filter": lambda: index.find(Filter(text=frequent, model="nobody")),
        "prefix": lambda: index.resolve(long[:8]),
        "long_run": lambda: index.steps(long),
        "long_run_read": lambda: index.read(long),
        "costs": lambda: index.costs("card"),
    }
    result = {f"{name}_s": _slowest(ask) for name, ask in questions.items()}
    client.close()
    return result


def _slowest(ask: Callable[[], object]) -> float:
    ask()
    slowest = 0.0
    for _ in range(TIMES):
        started = time.perf_counter()
        ask()
        slowest = max(slowest, time.perf_counter() - started)
    return slowest
