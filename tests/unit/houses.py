"""A stage on a real embedded store and without a worker, and what it is given."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, cast

import pytest
from faust.types import TP

from penstock.broker.embedded.journal import EmbeddedJournal
from penstock.broker.embedded.store import Store
from penstock.journal import Journal
from penstock.models.gate import Gates
from penstock.project.chains import StageSpec
from penstock.record import events
from penstock.record.dead_letters import DeadLetter
from penstock.record.events import Event, first_event
from penstock.settings import Settings
from penstock.signals import DeadLettered, Shown, Signal, Signals, StepFinished, write_to_log
from penstock.steps import Work
from penstock.worker.env import Env
from penstock.worker.interactions import Interactions
from penstock.worker.stage import Stage
from penstock.worker.work import Answer, StepWork, python_step
from tests.unit.conftest import Opener, messages, run_leaping

SPEC = StageSpec(name="teller", reads="idea", writes="draft", step="write").within("tale")
DEAD_LETTERS = "penstock-dead-letters"
TRACE = "0f8fad5b-d9cb-469f-a165-70867728950e"


def env_of(journal: Journal, signals: Signals | None = None, **fields: Any) -> Env:
    """What a stage is given where `journal` is the broker's."""
    signals = signals or Signals()
    given = {"settings": Settings(), "gates": Gates(signals), **fields}
    return Env(signals=signals, journal=journal, **given)


class Log:
    """An event log that keeps its lines."""

    writing = True

    def __init__(self) -> None:
        self.room = asyncio.Event()
        self.room.set()
        self.lines: list[dict[str, Any]] = []

    def write(self, event: str, topic: str, trace_id: str, message: Any, **fields: Any) -> None:
        self.lines.append(
            {"event": event, "topic": topic, "trace_id": trace_id, "message": message, **fields}
        )


class House:
    """A worker around a stage, and what it has heard of it."""

    def __init__(self, store: Store, **settings: Any) -> None:
        self.store = store
        self.event_log = Log()
        self.cancelled: set[bytes] = set()
        self.shown: list[str] = []
        self.ended: list[Event] = []
        self.progress = asyncio.Event()
        self.dead_letters: list[DeadLetter] = []
        journal = EmbeddedJournal(store)
        self.env = env_of(
            journal,
            self._signals(),
            settings=Settings(**settings),
            rooms=(journal.room, self.event_log.room),
            cancelled=self.cancelled,
        )

    def _signals(self) -> Signals:
        signals = Signals()
        Interactions(cast(Any, self.event_log), instructions=False).subscribe(signals)
        signals.on(Signal, write_to_log)
        signals.on(Shown, lambda shown: self.shown.append(shown.text))
        signals.on(StepFinished, lambda finished: self.ended.append(finished.event))
        signals.on(DeadLettered, lambda dead: self.dead_letters.append(dead.dead_letter))
        signals.on(Signal, lambda _: self.progress.set())
        return signals

    def stage(
        self,
        do: Callable[[StepWork], Awaitable[Answer]] | Callable[[Work], Any],
        spec: StageSpec = SPEC,
        limit: int = 100,
    ) -> Stage:
        """A stage that does `do`, a Python step."""
        return Stage(self.env, spec, python_step(do), limit)

    async def put(self, *records: Event | bytes | tuple[bytes | None, bytes | None]) -> list[Any]:
        """The records stand on the stage's topic; all messages there."""
        for record in records:
            if isinstance(record, Event):
                record = (record.key, events.dump(record))
            elif isinstance(record, bytes):
                record = (b"a run", record)
            durable: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            self.store.append(TP("idea", 0), 0, *record, None, durable.set_result)
            await durable
        return messages(self.store, "idea")

    async def over(self, count: int = 1) -> None:
        """So many events have ended, well or as dead letters."""
        while len(self.ended) + len(self.dead_letters) < count:
            self.progress.clear()
            await self.progress.wait()

    def outputs(self) -> list[Event]:
        return [events.load(message.value) for message in messages(self.store, "draft")]

    def done(self) -> list[int]:
        """The offsets that the stage has finished, as they stand in the file."""
        part = self.store.part(TP("idea", 0))
        stored = self.store.stored_position(self.store.writer.db, "teller", part)
        return [offset for offset in range(20) if stored.is_done(offset)]


Body = Callable[[House], Coroutine[Any, Any, None]]


@pytest.fixture
def live(open_store: Opener) -> Callable[..., None]:
    """Runs a coroutine function on the worker's loop, with a house. With `leaping`, on a clock
    that leaps over pauses."""

    def run(body: Body, leaping: bool = False, **settings: Any) -> None:
        async def main() -> None:
            store = open_store()
            for topic in ("idea", "draft", DEAD_LETTERS):
                store.create(topic, 1)
            store.start(asyncio.get_running_loop())
            await body(House(store, **settings))
            if not leaping:
                await store.flush()

        (run_leaping if leaping else asyncio.run)(main())

    return run


def take(stage: Stage, found: Iterable[Any]) -> None:
    for message in found:
        stage._take(message)


def idea(text: str = "a snail", run: str = "") -> Event:
    """What begins `run`; without one, the run of `TRACE`."""
    return first_event("tale", {"idea": text}, trace_of(run) if run else TRACE)


def trace_of(run: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, run))


async def write(work: Work) -> str:
    return f"once {work.parts['idea']}"


class Gate:
    """A step that says when it begins and waits until it is let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.open: dict[str, asyncio.Event] = {}

    async def __call__(self, work: Work) -> str:
        name = work.parts["idea"]
        self.begun.append(name)
        await self.open.setdefault(name, asyncio.Event()).wait()
        return "x"

    def let(self, *names: str) -> None:
        for name in names:
            self.open.setdefault(name, asyncio.Event()).set()

    async def step(self, work: Work) -> str:
        return await self(work)
