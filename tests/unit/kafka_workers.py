"""Workers of Penstock on a Kafka in memory: journal, handover and stages as they are, and a model
that remembers what it was asked.

    async def body(cluster: Cluster) -> None:
        worker = await cluster.start()
        cluster.kill_at("recorded", worker)
        cluster.put(idea())
        await cluster.settle()
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any

import msgspec
import pytest
from faust.types import TP, ConsumerMessage

from penstock import crash
from penstock.broker.contract import Pipeline, Plan
from penstock.broker.kafka.clients import ShutdownBudget
from penstock.broker.kafka.handover import Handover
from penstock.broker.kafka.journal import KafkaJournal
from penstock.broker.kafka.lease import Lease
from penstock.broker.kafka.log import Room
from penstock.broker.kafka.problems import Problems
from penstock.journal import asking
from penstock.project.chains import StageSpec
from penstock.record import dead_letters as deadletters
from penstock.record import events, steps
from penstock.record.dead_letters import DeadLetter
from penstock.record.events import Event, first_event
from penstock.record.steps import StepRecord
from penstock.signals import DeadLettered, Signal, Signals, StageJoined, StageLeft
from penstock.steps import Work
from penstock.worker.stage import Stage
from penstock.worker.stages import Stages
from penstock.worker.work import python_step
from tests.unit.conftest import run_leaping
from tests.unit.houses import env_of
from tests.unit.kafka_memory import Consumer, Kafka, Killed, MemoryLog, Process, Record

SPECS = (
    StageSpec(name="teller", reads="idea", writes="draft", step="write").within("tale"),
    StageSpec(name="printer", reads="draft", writes="text", step="print").within("tale"),
)
PLAN = Plan(
    "penstock",
    (Pipeline("tale", "topics/tale.yaml", ("idea", "draft", "text")),),
    {"idea": ("teller",), "draft": ("printer",)},
)
JOURNAL = "penstock-journal"
#: Seconds of silence after which the group goes on without a worker.
SESSION_S = 10.0
#: Seconds in which everything that workers do by themselves is done: they write every 0.02 s and
#: commit every 0.3 s. The loop's clock leaps over them.
SETTLED_S = 1.0

#: What a step is given to ask the model: `await ask(work, question)`.
Ask = Callable[[Work, str], Awaitable[str]]
Script = Callable[[Work, Ask], Awaitable[Any]]


async def write(work: Work, ask: Ask) -> str:
    return await ask(work, f"write {work.parts['idea']}")


async def print_(work: Work, ask: Ask) -> str:
    return await ask(work, f"print {work.parts['idea']}")


#: How long a worker waits for its calls when it stops.
DRAIN_S = 1.0


class Stream:
    """What Faust gives an agent to read."""

    def __init__(self) -> None:
        self.channel = self
        self.queue: asyncio.Queue[Any] = asyncio.Queue()

    def noack(self) -> "Stream":
        return self

    async def events(self) -> Any:
        while True:
            yield await self.queue.get()


class Delivered:
    """One event of a stream."""

    def __init__(self, message: ConsumerMessage) -> None:
        self.message = message


class Worker:
    """A process with the stages of the chain."""

    def __init__(
        self,
        cluster: "Cluster",
        scripts: Mapping[str, Script],
        specs: Iterable[StageSpec] = SPECS,
        plan: Plan = PLAN,
    ) -> None:
        self.cluster = cluster
        self.process = process = Process()
        self.dead_letters: list[DeadLetter] = []
        signals = Signals()
        signals.on(DeadLettered, lambda signal: self.dead_letters.append(signal.dead_letter))
        #: What it said of a chain that was edited.
        self.edited: list[Signal] = []
        for kind in (StageJoined, StageLeft):
            signals.on(kind, self.edited.append)
        self._signals: list[Signal] = []
        signals.on(Signal, self._signals.append)
        topics = list(plan.readers)
        self.consumer = Consumer(cluster.kafka, process, topics, self._deliver)
        self.journal = KafkaJournal(
            plan,
            MemoryLog(cluster.kafka, process),
            Room(),
            lambda: self.consumer,
            self._partition_of,
            Lease(SESSION_S, process.now),
            Problems(signals),
            cluster.now,
        )
        self.stages = Stages(signals, DRAIN_S)
        self.handover = Handover(self.journal, self.stages, lambda: self.consumer, signals)
        self.consumer.give_up = self._give_up
        self.consumer.load = self._load
        self.consumer.on_seek = self.handover.on_seek
        env = env_of(
            self.journal,
            signals,
            rooms=(self.journal.room,),
            suspects=self.journal.suspects,
            cancelled=self.stages.cancelled,
            generation=lambda: self.consumer.generation,
        )
        self._streams = {spec.name: Stream() for spec in specs}
        for spec in specs:
            do = python_step(self._step(scripts[spec.name]))
            self.stages[spec.name] = Stage(env, spec, do, 100)
        self._tasks = [
            process.begin(one)
            for one in (
                *(stage.consume(self._streams[name]) for name, stage in self.stages.items()),
                self.journal.held.watch(self.handover.begin_again),
                self.consumer.commit_now_and_then(),
            )
        ]

    # -- its life

    async def stop(self) -> None:
        """It drains, gives its partitions up and leaves the group."""
        await self.handover.give_up(None, ShutdownBudget())
        await self.cluster.kafka.rebalance(*self.others())
        self.kill()

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        for task in self._tasks:
            task.cancel()

    def said(self, kind: type[Signal]) -> list[Signal]:
        """Its signals of that kind so far."""
        return [signal for signal in self._signals if isinstance(signal, kind)]

    def others(self) -> list[Consumer]:
        return [one for one in self.cluster.kafka.members if one is not self.consumer]

    async def _give_up(self) -> None:
        await self.handover.give_up(DRAIN_S, ShutdownBudget())

    async def _load(self) -> None:
        for stream in self._streams.values():  # as Faust does, between two assignments
            while not stream.queue.empty():
                stream.queue.get_nowait()
        await self.handover.assigned()
        await self.handover.load()

    async def _partition_of(self, topic: str, key: bytes) -> int:
        return self.cluster.kafka.partition_of(topic, key)

    def _deliver(self, message: ConsumerMessage) -> None:
        readers = [name for name, stage in self.stages.items() if stage.spec.reads == message.topic]
        message.incref(len(readers))
        for name in readers:
            self._streams[name].queue.put_nowait(Delivered(message))

    # -- what its steps do

    def _step(self, script: Script) -> Callable[[Work], Awaitable[Any]]:
        async def step(work: Work) -> Any:
            return await script(work, self._ask)

        return step

    async def _ask(self, work: Work, question: str) -> str:
        answer = await work.call("ask", self._answer, question)
        return str(answer)

    async def _answer(self, question: str) -> str:
        """As `penstock.models` asks: right before the request leaves, whether it may."""
        await self.process.runs()
        lease = asking.get()
        assert lease is not None
        waiting = lease()
        if waiting is not None:
            await waiting
        await self.process.runs()
        return await self.cluster.model(question)


class Model:
    """Answers each question with itself and how often it was asked before, and remembers all."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        #: Questions that are answered only when their event is set.
        self.slow: dict[str, asyncio.Event] = {}

    async def __call__(self, question: str) -> str:
        self.asked.append(question)
        count = self.asked.count(question)
        crash.at("asked")
        if question in self.slow:
            await self.slow[question].wait()
        return f"{question} #{count}"

    def hold(self, question: str) -> asyncio.Event:
        """It is answered when this is set."""
        return self.slow.setdefault(question, asyncio.Event())


class Cluster:
    """A Kafka in memory, the workers on it, and the model that they all ask."""

    def __init__(self, partitions: int = 1) -> None:
        self.kafka = Kafka(partitions)
        self.model = Model()
        #: Seconds by which the calendar is ahead of the loop.
        self.ahead_s = 0.0
        self._answers: set[str] = set()

    def now(self) -> float:
        """Seconds since 1970."""
        return 1.0e9 + self.ahead_s + asyncio.get_running_loop().time()

    # -- workers

    async def start(
        self,
        scripts: Mapping[str, Script] | None = None,
        *others: Worker,
        **options: Any,
    ) -> Worker:
        """A new worker shares the partitions with `others`, and is the last of them."""
        scripts = {"teller": write, "printer": print_, **(scripts or {})}
        worker = Worker(self, scripts, **options)
        await self.share(*others, worker)
        return worker

    async def share(self, *workers: Worker) -> None:
        """These are the group, from here on."""
        await self.kafka.rebalance(*(worker.consumer for worker in workers))

    def kill_at(self, point: str, worker: Worker, passing: int = 1) -> None:
        """`worker` is killed when it passes `point` for the time `passing`."""
        left = passing

        def hook(passed: str, steps: int) -> None:
            nonlocal left
            passes = passed == point and Process.current.get() is worker.process
            left -= passes
            if passes and left == 0:
                crash.hook = None
                worker.kill()
                raise Killed

        crash.hook = hook

    async def settle(self, seconds: float = SETTLED_S) -> None:
        """So much time has passed for the workers, and what they do by themselves is done."""
        await asyncio.sleep(seconds)

    # -- what stands there

    def put(self, *made: Event | tuple[bytes, bytes], **changes: Any) -> None:
        """The events, with `changes`, or records of key and value, stand on the first topic."""
        for one in made:
            if isinstance(one, Event):
                changed = msgspec.structs.replace(one, **changes)
                one = (one.key, events.dump(changed))
            self.kafka.append("idea", *one)

    def partition_of(self, event: Event) -> int:
        return self.kafka.partition_of("idea", event.key)

    def events(self, topic: str) -> list[Event]:
        return [events.load(record.value) for record in self.kafka.records(topic)]

    def dead_letters(self) -> list[DeadLetter]:
        found = self.kafka.records("penstock-dead-letters")
        return [deadletters.load(record.value or b"") for record in found]

    def step_records(self) -> dict[str, StepRecord]:
        """The records of steps by what they are of: the first, as a crash can leave one twice."""
        found: dict[str, StepRecord] = {}
        for record in self.kafka.records(PLAN.steps):
            for one in steps.load(record.value or b""):
                found.setdefault(one.id, one)
        return found

    def journal(self, kind: bytes = b"") -> dict[bytes, Record]:
        """The records of the journal that stand, by their keys."""
        last = {record.key or b"": record for record in self.kafka.records(JOURNAL)}
        return {
            key: record
            for key, record in last.items()
            if record.value is not None and key.startswith(kind)
        }

    def answers(self) -> set[str]:
        """Every answer that was recorded so far."""
        for record in self.kafka.records(JOURNAL):
            key, value = record.key or b"", record.value
            if value is not None and key.startswith(b"c|") and not key.startswith(b"c|.claims/"):
                self._answers.add(msgspec.json.decode(value))
        return set(self._answers)

    def compact(self) -> None:
        """Kafka has compacted the journal."""
        self.answers()
        self.kafka.compact(JOURNAL)

    def count(self) -> int:
        """How many records there are in all."""
        topics = ("idea", "draft", "text", "penstock-dead-letters", JOURNAL)
        return sum(len(self.kafka.records(topic)) for topic in topics)

    def is_committed(self) -> bool:
        """Whether nothing is left to do, by the group's commits."""
        tps = [TP(topic, part) for topic in PLAN.readers for part in range(self.kafka.partitions)]
        return all(self.kafka.commits.get(tp, 0) == self.kafka.end(tp) for tp in tps)


Body = Callable[[Cluster], Coroutine[Any, Any, None]]


@pytest.fixture
def run() -> Any:
    """Runs a coroutine function with a cluster, on a clock that leaps over pauses."""

    def run_(body: Body, partitions: int = 1) -> None:
        async def main() -> None:
            # Nobody else holds the tasks of a dead worker, and what the collector takes is closed,
            # which lets it act once more.
            held: set[asyncio.Task[Any]] = set()

            def hold(loop: Any, work: Any, **options: Any) -> asyncio.Task[Any]:
                task = asyncio.Task(work, loop=loop, **options)
                held.add(task)
                task.add_done_callback(held.discard)
                return task

            loop = asyncio.get_running_loop()
            loop.set_exception_handler(_note)
            loop.set_task_factory(hold)
            try:
                await body(Cluster(partitions))
            finally:
                while held:
                    for task in held:
                        task.cancel()
                    await asyncio.wait(set(held))

        try:
            run_leaping(main())
        finally:
            crash.hook = None

    return run_


def _note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not isinstance(context.get("exception"), Killed):  # nobody waits for a dead worker's tasks
        loop.default_exception_handler(context)


def idea(text: str = "a snail", trace_id: str | None = None) -> Event:
    """The first event of a run, the same for the same text."""
    trace_id = trace_id or str(uuid.uuid5(events.NAMESPACE, text))
    return first_event("tale", {"idea": text}, trace_id)
