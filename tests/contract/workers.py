"""A worker in this process, with its broker as it has it and as everybody else has it."""

import asyncio
import concurrent.futures
import pathlib
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from penstock.broker import open_broker
from penstock.broker.contract import Beginning, Broker, Found, Location, Membership
from penstock.client import Client
from penstock.project.project import read_project
from penstock.record import dead_letters as deadletters
from penstock.record import events
from penstock.record.dead_letters import DeadLetter
from penstock.record.events import Event, first_event
from penstock.settings import Settings
from penstock.steps import Work
from penstock.worker.application import PenstockApp
from tests.contract.brokers import PARTITIONS, PATIENCE_S
from tests.programs import wait_until

CHAIN = """\
pipeline: {pipeline}
accept: plain
topics:
  {idea}: What it is about
  {draft}: A first version
  {text}: The finished text
stages:
  - {{reads: {idea}, step: write, writes: {draft}}}
  - {{reads: {draft}, step: print, writes: {text}}}
"""
#: The steps stand in this module, so that a test can say what they do.
STEPS = """\
from penstock import step
from tests.contract.workers import run_script

@step("write")
async def write(work):
    return await run_script(work)

@step("print")
async def print_(work):
    return "printed"
"""

Script = Callable[[Work], Awaitable[Any]]
T = TypeVar("T")

#: What the first step does, by the run; otherwise it tells how often it was asked.
_scripts: dict[str, Script] = {}
#: The runs whose model was asked, in order.
_asked: list[str] = []


async def run_script(work: Work) -> Any:
    return await _scripts.get(work.event.trace_id, ask)(work)


async def ask(work: Work) -> str:
    """One call, which is paid for."""
    answer = await work.call("ask", _answer, work.event.trace_id)
    return str(answer)


async def _answer(trace_id: str) -> str:
    _asked.append(trace_id)
    return f"answer {_asked.count(trace_id)}"


class Gate:
    """A first step that asks, and then waits to be let go."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self.entered = threading.Event()

    async def __call__(self, work: Work) -> str:
        answer = await ask(work)
        self.entered.set()
        await self._open.wait()
        return answer

    def open(self) -> None:
        self._open.set()


class House:
    """A project of two steps, a worker for it when it is started, and a client's broker."""

    def __init__(self, url: str, folder: pathlib.Path) -> None:
        name = f"tale{uuid.uuid4().hex[:8]}"
        self.idea, self.draft, self.text = (f"{name}-{one}" for one in ("idea", "draft", "text"))
        for subfolder, file, text in (
            ("topics", f"{name}.yaml", self._chain(name)),
            ("steps", "tale.py", STEPS),
        ):
            (folder / subfolder).mkdir(parents=True)
            (folder / subfolder / file).write_text(text)
        self.settings = Settings.read(
            {
                "PENSTOCK_PROJECT": str(folder),
                "PENSTOCK_DATA": str(folder / "data"),
                "PENSTOCK_APP_ID": f"app-{name}",
                "PENSTOCK_EVENT_LOG": "off",
                "PENSTOCK_SEED": "0",
                "PENSTOCK_SESSION_S": "6",
                "PENSTOCK_PARTITIONS": str(PARTITIONS),
                **({"PENSTOCK_BROKER": url} if url else {}),
            }
        )
        self.project = read_project(folder)
        self.project.require_sound()
        self.pipeline = name
        self.plan = self.project.plan(self.settings.app_id)
        self.teller, self.printer = (self.plan.readers[one][0] for one in (self.idea, self.draft))
        self.broker: Broker = open_broker(self.settings, self.plan)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._app: PenstockApp | None = None

    def _chain(self, name: str) -> str:
        return CHAIN.format(pipeline=name, idea=self.idea, draft=self.draft, text=self.text)

    # -- the worker

    def start(self) -> None:
        """Its worker is ready."""
        self._thread.start()
        self.call(self._start())

    async def _start(self) -> None:
        app = self._app = PenstockApp(self.settings, self.project)
        app.finalize()
        app.prepare()
        await app.start()
        tables: Any = app.tables
        while not tables.recovery.completed.is_set():
            await asyncio.sleep(0.01)

    def stop(self) -> None:
        if self._app is not None:
            self.call(self._app.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.broker.close()

    @property
    def membership(self) -> Membership:
        assert self._app is not None
        return self._app.broker

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives, done on the worker's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def later(self, work: Coroutine[Any, Any, T]) -> "concurrent.futures.Future[T]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def soon(self, action: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(action)

    # -- runs

    def event(self, trace_id: str, parts: Mapping[str, Any] | None = None) -> Event:
        """What begins a run of that id."""
        return first_event(self.pipeline, {self.idea: "a snail"} | dict(parts or {}), trace_id)

    def beginning(self, trace_id: str, parts: Mapping[str, Any] | None = None) -> Beginning:
        event = self.event(trace_id, parts)
        return Beginning(self.idea, event.id, event.key, events.dump(event))

    def begin(self, trace_id: str, parts: Mapping[str, Any] | None = None) -> Location | None:
        """As a client begins it."""
        (location,) = self.broker.begin([self.beginning(trace_id, parts)])
        return location

    def begin_here(self, trace_id: str, text: str = "a snail", kept: bool = False) -> Any:
        """As the worker begins it."""
        one = self.beginning(trace_id, {self.idea: text})
        return self.call(self.membership.begin(*one, kept=kept))

    def hold(self, trace_id: str) -> Gate:
        """The run's first step waits, once it has asked."""
        gate = _scripts[trace_id] = Gate()
        return gate

    def script(self, trace_id: str, script: Script) -> None:
        _scripts[trace_id] = script

    def asked(self, trace_id: str) -> int:
        """How often was paid for the run."""
        return _asked.count(trace_id)

    # -- what stands there

    def found(self, topic: str, trace_id: str, broker: Broker | None = None) -> list[Found]:
        broker = broker or self.broker
        with broker.snapshot():
            return broker.find(topic, trace_id.encode())

    def parts(self, topic: str, trace_id: str) -> list[dict[str, Any]]:
        return [events.load(one.value).parts for one in self.found(topic, trace_id)]

    def dead_letters(self, trace_id: str) -> list[DeadLetter]:
        return [deadletters.load(one.value) for one in self.found(self.plan.dead_letters, trace_id)]

    def is_over(self, trace_id: str) -> bool:
        """Whether no stage has anything left to do of the run."""
        with self.broker.snapshot():
            return self.is_over_now(trace_id)

    def is_over_now(self, trace_id: str) -> bool:
        """The same inside a snapshot."""
        reads = {self.teller: self.idea, self.printer: self.draft}
        return all(
            self.broker.is_done(reader, one)
            for reader, topic in reads.items()
            for one in self.broker.find(topic, trace_id.encode())
        )

    def is_cancelled(self, trace_id: str) -> bool:
        """Whether the worker has heard so."""
        assert self._app is not None
        return trace_id.encode() in self._app.stages.cancelled

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        return wait_until(condition, what, PATIENCE_S)

    def wait_until_over(self, trace_id: str) -> None:
        self.wait(lambda: self.is_over(trace_id), f"the end of {trace_id}")

    def client(self) -> Client:
        return Client(self.settings, self.project)

    def now(self) -> float:
        return time.time()
