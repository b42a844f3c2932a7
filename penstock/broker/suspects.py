"""Suspects: events that were in flight when a worker died.

An event that was alone in flight at a crash has probably caused it. One that was in flight with
others runs alone next, so that the next crash, if there is one, shows which of them it was. After
three deaths alone an event is a dead letter. Each broker has its own way to know what was in
flight.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Protocol

from penstock.errors import EventError

#: Deaths of a worker with only this event in flight, after which the event is a dead letter.
DEAD_AFTER = 3


class KilledWorker(EventError):
    """The worker died each time that this event was alone in flight."""

    def __init__(self, deaths: int) -> None:
        super().__init__(f"the worker died {deaths} times while this event was alone in flight")


class Suspects(Protocol):
    """Knows what was in flight when earlier workers died, and notes what is in flight now."""

    concurrency: "Concurrency"

    def check(self, stage: str, message: Any) -> bool:
        """Return whether the event of `message` has to run alone. Raises `KilledWorker` when it
        must not run at all."""

    def enter(self, stage: str, message: Any, alone: bool) -> int:
        """Note that the event is in flight. Returns the slot, for `written` and `leave`."""

    def written(self, slot: int) -> Awaitable[None] | None:
        """Return what to await before the step runs, if anything: that the note is durable."""

    def leave(self, slot: int) -> None:
        """Take the note away: the event is not in flight any more."""


class Concurrency:
    """How many events run at the same time: many, or one alone."""

    def __init__(self) -> None:
        self.running = 0
        self._alone = asyncio.Lock()
        self._open = asyncio.Event()
        self._open.set()
        self._closed = False
        self._empty = asyncio.Event()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Inside, no other event runs. Waits for those that do."""
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
        """Run with the others, until `leave`. Returns False while an event has to be alone."""
        if self._closed:
            return False
        self.running += 1
        return True

    async def joined(self) -> None:
        """Wait until the event runs with the others."""
        while not self.join():
            await self._open.wait()

    def leave(self) -> None:
        self.running -= 1
        if not self.running:
            self._empty.set()
