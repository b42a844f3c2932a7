"""Work: what a step is given, and what it answers."""

import asyncio
import dataclasses
import functools
import inspect
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from penstock.errors import EventError, StepFailed, Unavailable
from penstock.journal import FUNCTION, MEMORY, Calls
from penstock.memory import KINDS
from penstock.record.dead_letters import Exchange
from penstock.record.events import Event, Usage
from penstock.signals import Shown
from penstock.steps import Claim, FanOut, Step
from penstock.worker.env import Env

#: What is tried again: what says so, and the system's own errors of a connection.
PASSING = (Unavailable, ConnectionError, TimeoutError)
#: The same of the clients that steps use. None of them is imported for this.
HTTPX = ("NetworkError", "TimeoutException", "RemoteProtocolError")
CLIENTS = {
    "httpx": HTTPX,
    "httpx2": HTTPX,
    "aiohttp": ("ClientConnectionError", "ClientPayloadError"),
    "requests": ("ConnectionError", "Timeout"),
    "urllib3.exceptions": ("TimeoutError", "ProtocolError", "NewConnectionError", "MaxRetryError"),
}


def may_pass(error: BaseException) -> bool:
    """Return whether `error` is of a connection, or a time-out: what the next try may not meet."""
    if isinstance(error, PASSING):
        return True
    for module, names in CLIENTS.items():
        loaded = sys.modules.get(module)
        kinds = tuple(kind for name in names if (kind := getattr(loaded, name, None)))
        if isinstance(error, kinds):
            return True
    return False


@dataclasses.dataclass(slots=True)
class Answer:
    """What a step made: a value for each output, and what it used."""

    values: list[Any]
    usage: Usage | None = None
    card: str | None = None
    #: The instructions that made it, for the event log.
    instructions: str | None = None
    #: What the model said to itself, where it gives that.
    thinking: str = ""
    #: What it was asked and said, for a dead letter of what cannot be used.
    exchange: Callable[[], Exchange] | None = None


class StepWork:
    """What a step is given: see `penstock.steps.Work`."""

    __slots__ = (
        "_env",
        "_notes",
        "_stage",
        "calls",
        "data",
        "event",
        "gates",
        "settings",
        "signals",
    )

    def __init__(self, event: Event, calls: Calls, env: Env, stage: str) -> None:
        self.event = event
        self.calls = calls
        self.settings = env.settings
        self.data = env.settings.data
        self.gates = env.gates
        self.signals = env.signals
        self._env = env
        self._stage = stage
        self._notes = 0

    @property
    def parts(self) -> dict[str, Any]:
        return self.event.parts

    async def call(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        async def made() -> bytes:
            return msgspec.json.encode(await awaitable(function)(*args))

        request = msgspec.json.encode([name, args])
        return msgspec.json.decode(await self.calls.once(request, made, FUNCTION, name))

    async def claim(self, value: Any) -> Claim:
        held, position = await self.calls.claim(self.event.trace_id, value)
        return Claim(held, position == self.calls.position)

    async def recall(
        self, about: str | None, kinds: Sequence[str] = KINDS, limit: int = 3
    ) -> list[dict[str, Any]]:
        async def look() -> bytes:
            if self._env.memory is None:
                return b"[]"
            memory = await self._env.memory()
            # What this very run has learnt is no lesson for it.
            without = f"{self.event.trace_id}/"
            if about is None:
                found = await memory.latest(kinds, limit, without=without)
            else:
                found = await memory.recall(about, kinds, limit, without=without)
            return msgspec.json.encode(found)

        request = msgspec.json.encode(["recall", about, kinds, limit])
        found: list[dict[str, Any]] = msgspec.json.decode(
            await self.calls.once(request, look, MEMORY, "recall")
        )
        return found

    async def remember(self, kind: str, about: str, lesson: str) -> None:
        if self._env.memory is not None:
            self._notes += 1
            memory = await self._env.memory()
            about, lesson = self.settings.redact(about), self.settings.redact(lesson)
            id_ = f"{self.event.trace_id}/{self.event.id}/{self._notes}"
            await memory.remember(kind, about, lesson, id=id_)

    def show(self, text: str) -> None:
        text = self.settings.redact(text)
        self.signals.emit(Shown(self.event.trace_id, self._stage, text))


Do = Callable[[StepWork], Awaitable[Answer]]


def awaitable(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Return `function` as one to await: in a thread, unless it is a coroutine function."""
    code = getattr(function, "__code__", None)
    # Most say so themselves, and to look further takes longer than the rest of a call that is here.
    if code is not None and code.co_flags & inspect.CO_COROUTINE:
        return function
    if inspect.iscoroutinefunction(function):
        return function

    def call(*args: Any) -> Any:
        try:
            return function(*args)
        except StopIteration as exc:
            # asyncio cannot carry it out of the thread: whoever waits would wait for ever.
            raise RuntimeError("the function raised StopIteration") from exc

    return functools.partial(asyncio.to_thread, call)


def python_step(function: Callable[..., Any]) -> Do:
    """The stage's work as a Python step: what it returns becomes the values of the outputs."""

    made_by = awaitable(function)

    async def do(work: StepWork) -> Answer:
        started = time.perf_counter()
        try:
            made = await made_by(work)
        except (*PASSING, EventError):
            raise
        except Exception as exc:
            text = f"{type(exc).__name__}: {exc}"
            raise (Unavailable(text) if may_pass(exc) else StepFailed(text)) from exc
        seconds = time.perf_counter() - started
        before = work.event.usage
        usage = Usage(model=before.model if before else "", seconds=seconds)
        if isinstance(made, FanOut):
            return Answer(list(made.answers), usage)
        return Answer([] if made is None else [made], usage)

    return do


def checked(check: Step, do: Do) -> Do:
    """`do`, once the step `check` has looked at the event: what it raises is the stage's failure,
    and False ends the run there."""
    look = python_step(check)

    async def both(work: StepWork) -> Answer:
        if (await look(work)).values == [False]:
            return Answer([])
        return await do(work)

    return both
