"""Python steps and tools: functions that a chain or a card calls by name.

    from penstock import Work, step

    @step
    async def shout(work: Work) -> str:
        return work.parts["text"].upper()

Its name is the function's, or the one that is given: `@step("shout")`. What a step returns becomes
the part named after the topic that its stage writes: text, or anything that JSON can hold. `None`
ends the run there; `FanOut([a, b])` sends one event each. A step that a stage names as its `check`
says whether the agent is to be asked: False ends the run there.
"""

import contextlib
import contextvars
import dataclasses
import inspect
import pathlib
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar, overload

from penstock.errors import StepError
from penstock.models.gate import Gates
from penstock.record.events import Event
from penstock.record.notes import KINDS
from penstock.settings import Settings
from penstock.signals import Signals


@dataclasses.dataclass(frozen=True)
class Claim:
    """What a run is claimed for, and whether that was by this very event."""

    value: Any
    mine: bool


class Work(Protocol):
    """What a step is given: one event, and calls that are journalled."""

    event: Event
    #: The folder for what a step leaves behind (PENSTOCK_DATA).
    data: pathlib.Path
    settings: Settings
    #: What calls wait at while what they call is away: `async with work.gates.call("crm", "The
    #: CRM"): ...`, where an `Unavailable` is a failure and anything else an answer.
    gates: Gates
    #: Where it is said what happens.
    signals: Signals

    @property
    def parts(self) -> dict[str, Any]:
        """What the run has made so far, by name."""

    async def call(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        """The answer of `function(*args)`, recorded: when the step is taken up again after a
        crash, the recorded answer comes back and the function is not called. `args` and the
        answer are JSON values. A plain function runs in a thread."""

    async def claim(self, value: Any) -> Claim:
        """What the run is claimed for: `value`, for good, unless another event of the run was
        here before. Durable, and the same after a crash; a JSON value. It is kept as long as
        finished runs are."""

    async def recall(
        self, about: str | None, kinds: Sequence[str] = KINDS, limit: int = 3
    ) -> list[dict[str, Any]]:
        """Notes of the memory, each with `kind`, `task`, `lesson` and `score`: those nearest to
        `about`, or the latest when that is None. Recorded, as a call is. None while it is down."""

    async def remember(self, kind: str, about: str, lesson: str) -> None:
        """The memory will have the note, once, however often the step is taken up again. Raises
        `Unavailable` when the disk does not take it, and `ValueError` for an unknown kind."""

    def show(self, text: str) -> None:
        """`text` on the worker's console."""


@dataclasses.dataclass(frozen=True)
class FanOut:
    """Several outputs of one step, in order."""

    answers: Sequence[Any]


Step = Callable[[Work], Awaitable[Any] | Any]
Tool = Callable[..., Any]
S = TypeVar("S", bound=Step)
T = TypeVar("T", bound=Tool)
#: Says how what a step needs is, or raises a `PenstockError` with what is missing and what to do.
Ready = Callable[[Settings], Awaitable[str] | str]


@dataclasses.dataclass
class Registry:
    """The steps and tools that chains and cards may name."""

    steps: dict[str, Step] = dataclasses.field(default_factory=dict)
    tools: dict[str, Tool] = dataclasses.field(default_factory=dict)
    #: By the names of steps: whether what they need is there.
    ready: dict[str, Ready] = dataclasses.field(default_factory=dict)

    @contextlib.contextmanager
    def collecting(self) -> Iterator[None]:
        """Inside, `@step` and `@tool` register here."""
        token = _collecting.set(self)
        try:
            yield
        finally:
            _collecting.reset(token)

    def add_step(self, name: str, function: Step) -> None:
        if len(inspect.signature(function).parameters) != 1:
            raise StepError(f"the step '{name}' takes one argument, the work")
        _add(self.steps, name, function)

    def add_tool(self, name: str, function: Tool) -> None:
        _add(self.tools, name, function)

    def drop_failed(self) -> None:
        """Nothing is left of what a module registered that could not be run to its end."""
        for known in (self.steps, self.tools):
            for name in [n for n, f in known.items() if f.__module__ not in sys.modules]:
                del known[name]


def _add(known: dict[str, Tool], name: str, function: Tool) -> None:
    if name in known:
        module = known[name].__module__
        ours = module.startswith("penstock.")
        origin = "Penstock" if ours else getattr(sys.modules.get(module), "__file__", module)
        raise StepError(f"'{name}' is already registered by {origin}")
    known[name] = function


_collecting: contextvars.ContextVar[Registry | None] = contextvars.ContextVar(
    "collecting", default=None
)


@overload
def step(name: str, *, ready: Ready | None = None) -> Callable[[S], S]: ...
@overload
def step(name: S) -> S: ...
def step(name: Any, *, ready: Ready | None = None) -> Any:
    """Register the function below as a step, `async def`, or `def` to run in a thread: by its own
    name (`@step`) or by another (`@step("name")`). Where `ready` raises, no runs of the step's
    pipelines are begun by themselves."""

    def add(registry: Registry, name: str, function: Step) -> None:
        registry.add_step(name, function)
        if ready is not None:
            registry.ready[name] = ready

    return _decorator(name, add)


@overload
def tool(name: str) -> Callable[[T], T]: ...
@overload
def tool(name: T) -> T: ...
def tool(name: Any) -> Any:
    """Register the function below as a tool, for the `tools` of cards: by its own name (`@tool`)
    or by another (`@tool("name")`)."""
    return _decorator(name, Registry.add_tool)


def _decorator(name: str | T, add: Callable[[Registry, str, T], None]) -> Callable[[T], T] | T:
    def register(function: T, name: str) -> T:
        registry = _collecting.get()
        if registry is not None:
            add(registry, name, function)
        return function

    if isinstance(name, str):
        return lambda function: register(function, name)
    return register(name, name.__name__)


def built_in() -> Registry:
    """A registry that holds the steps that come with Penstock."""
    from penstock.steps.persist import persist
    from penstock.steps.present import present
    from penstock.steps.sandbox import isolates, sandbox
    from penstock.steps.take_job import take_job
    from penstock.steps.write_file import write_file

    registry = Registry()
    for function in (persist, present, sandbox, take_job, write_file):
        registry.add_step(function.__name__, function)
    registry.ready[sandbox.__name__] = isolates
    return registry
