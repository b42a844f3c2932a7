"""Suspects: events that were in flight when a worker died, and what that says about them.

What was alone at a crash has probably caused it; what was present with others runs alone next, so
that the next crash, if there is one, says who it was. After three deaths alone an event is a dead
letter. How a broker finds out what was in flight is its own matter.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Protocol

from penstock.errors import EventError

#: Deaths alone after which an event is dead.
DEAD_AFTER = 3


class KilledWorker(EventError):
    """The worker died each time that this event was in flight alone."""

    def __init__(self, deaths: int) -> None:
        super().__init__(f"the worker died {deaths} times while this event was alone in flight")


class Suspects(Protocol):
    """What was present at the crashes of earlier workers, and what is in flight now."""

    crew: "Crew"

    def check(self, stage: str, message: Any) -> bool:
        """Whether the event of `message` has to run alone. Raises `KilledWorker` when it must not
        run at all."""

    def enter(self, stage: str, message: Any, alone: bool) -> int:
        """The event is in flight; what to give to `leave`."""

    def written(self, slot: int) -> Awaitable[None] | None:
        """What is to be awaited before the step runs, if anything."""

    def leave(self, slot: int) -> None:
        """The event is not in flight any more."""


class Crew:
    """Who is at work: everybody at once, or one alone."""

    def __init__(self) -> None:
        self.running = 0
        self._alone = asyncio.Lock()
        self._open = asyncio.Event()
        self._open.set()
        self._closed = False
        self._empty = asyncio.Event()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Inside, nobody else is at work."""
        async with self._alone:
            self._open.clear()
            self._closed = True
            try:
                while self.running:
                    self._empty.clear()
                    await self._empty.wait()
                yield
            finally:
                self._closed = False
                self._open.set()

    def join(self) -> bool:
        """At work with the others, until `leave`; False when somebody has to be alone first."""
        if self._closed:
            return False
        self.running += 1
        return True

    async def joined(self) -> None:
        """At work with the others, as soon as that is possible."""
        while not self.join():
            await self._open.wait()

    def leave(self) -> None:
        self.running -= 1
        if not self.running:
            self._empty.set()
