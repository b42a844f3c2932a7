"""Python steps and tools: functions that a chain or a card calls by name.

    from penstock.steps import Work, step

    @step("shout")
    async def shout(work: Work) -> str:
        return work.parts["text"].upper()

What a step returns becomes the part named after the topic that its stage writes: text, or anything
that JSON can hold. `None` ends the run there; `FanOut([a, b])` sends one event each. A step that a
stage names as its `check` says whether the agent is to be asked: False ends the run there.
"""

import contextlib
import contextvars
import dataclasses
import inspect
import pathlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol

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
#: Says how what a step needs is, or raises a `PenstockError` with what is missing and what to do.
Ready = Callable[[Settings], Awaitable[str] | str]


@dataclasses.dataclass
class Registry:
    """The steps and tools that chains and cards may name."""

    steps: dict[str, Step] = dataclasses.field(default_factory=dict)
    tools: dict[str, Callable[..., Any]] = dataclasses.field(default_factory=dict)
    #: By the names of steps: whether what they need is there.
    ready: dict[str, Ready] = dataclasses.field(default_factory=dict)
    places: dict[str, str] = dataclasses.field(default_factory=dict)

    @contextlib.contextmanager
    def collecting(self, place: str) -> Iterator[None]:
        """Inside, `@step` and `@tool` register here, as coming from `place`."""
        token = _collecting.set((self, place))
        try:
            yield
        finally:
            _collecting.reset(token)

    def _add(self, kind: str, name: str, function: Callable[..., Any], place: str) -> None:
        known: dict[str, Callable[..., Any]] = getattr(self, kind)
        if name in known:
            raise StepError(
                f"{place}: '{name}' is already registered by {self.places[kind + name]}"
            )
        known[name] = function
        self.places[kind + name] = place


_collecting: contextvars.ContextVar[tuple[Registry, str] | None] = contextvars.ContextVar(
    "collecting", default=None
)


def step(name: str, *, ready: Ready | None = None) -> Callable[[Step], Step]:
    """Register the function below as the step `name`: `async def`, or `def` to run in a thread.

    Where `ready` raises, no runs of the step's pipelines are begun by themselves.
    """

    def register(function: Step) -> Step:
        collector = _collecting.get()
        if collector is not None:
            registry, place = collector
            if len(inspect.signature(function).parameters) != 1:
                raise StepError(f"{place}: the step '{name}' takes one argument, the work")
            registry._add("steps", name, function, place)
            if ready is not None:
                registry.ready[name] = ready
        return function

    return register


def tool(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the function below as the tool `name`, for the `tools` of cards."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        collector = _collecting.get()
        if collector is not None:
            registry, place = collector
            registry._add("tools", name, function, place)
        return function

    return register


def built_in() -> Registry:
    """A registry that holds the steps that come with Penstock."""
    from penstock.steps.persist import persist
    from penstock.steps.present import present
    from penstock.steps.sandbox import isolates, sandbox
    from penstock.steps.take_job import take_job
    from penstock.steps.write_file import write_file

    registry = Registry()
    for function in (persist, present, sandbox, take_job, write_file):
        registry._add("steps", function.__name__, function, "Penstock")
    registry.ready[sandbox.__name__] = isolates
    return registry
