"""A worker's life, for what goes on beside its stages as long as it lasts."""

import dataclasses
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from penstock.project.chains import Chain
from penstock.record.events import Event


@dataclasses.dataclass(frozen=True, slots=True)
class Life:
    """Whether the worker is stopping, and a sleep of so many seconds that ends when it does."""

    is_over: Callable[[], bool]
    sleep: Callable[[float], Awaitable[None]]


class Begin(Protocol):
    """Begin a run by its first event, at the chain's entry or on `topic`; False when it had begun
    before, or is another worker's to begin. With `kept` that is known for good."""

    def __call__(
        self, chain: Chain, event: Event, *, kept: bool = False, topic: str | None = None
    ) -> Coroutine[Any, Any, bool]: ...
