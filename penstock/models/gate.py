"""Outages: while a provider is down, its callers wait, and one of them asks now and then.

An event's tries are for what is wrong with the event. When the provider itself is away, every
event would burn its tries for nothing, so nobody but one prober calls until it answers again.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Any

from penstock.backoff import Backoff
from penstock.errors import ModelLocked, Unavailable

log = logging.getLogger(__name__)

#: Failures in a row, no success between them, after which the provider counts as down.
DOWN_AFTER = 3
#: Seconds before the first probe, and at most between two.
FIRST_PROBE_S, LAST_PROBE_S = 1.0, 60.0


class Outage:
    """Whether one provider is up, closed to all but one prober while it is not."""

    def __init__(self, name: str, jitter: Callable[[], float] = random.random) -> None:
        self.name = name
        #: The last failure, while the provider is down.
        self.error: Unavailable | None = None
        self.since: float | None = None
        self._failures = 0
        self._backoff = Backoff(FIRST_PROBE_S, LAST_PROBE_S, jitter=jitter)
        self._probe_at = 0.0
        #: Whose turn it is. Only it may end its turn: calls that were under way when the provider
        #: went down fail late, and must neither let another prober through nor lengthen the pause.
        self._prober: asyncio.Task[Any] | None = None
        self._changed = asyncio.Event()

    @property
    def down(self) -> bool:
        return self.since is not None

    async def passage(self) -> None:
        """The provider is up, or it is this caller's turn to find out.

        Whoever returns from here makes one call and reports it, in the same task: `succeeded`,
        `failed` or `left`.
        """
        while self.down:
            if self._prober is not None:
                await self._changed.wait()
                continue
            self._prober = asyncio.current_task()
            try:
                async with asyncio.timeout_at(self._probe_at):
                    await self._changed.wait()  # up already: a call that was under way got through
            except TimeoutError:
                return
            except asyncio.CancelledError:
                self.left()
                raise

    def succeeded(self) -> None:
        """The provider answered, be it a refusal: it is there."""
        if self.since is not None:
            log.warning(
                "%s answers again after %.0f s; work goes on",
                self.name,
                time.time() - self.since,
                extra={"action": "provider_up"},
            )
        self._failures, self.since, self.error = 0, None, None
        self._backoff.reset()
        self._turn_ends()

    def failed(self, error: Unavailable) -> bool:
        """The call failed. True when the provider counts as down: then the try is not counted."""
        self._failures += 1
        if not self.down and (self._failures >= DOWN_AFTER or isinstance(error, ModelLocked)):
            self.since = time.time()
            log.error(
                "%s does not answer: %s. Its stages pause; asking again until it does",
                self.name,
                error.message,
                extra={"action": "provider_down"},
            )
            self._pause(error)
        elif self.down and self._prober is asyncio.current_task():
            self._pause(error)
        self.left()
        return self.down

    def left(self) -> None:
        """The caller is gone; if it was the prober, it is somebody else's turn."""
        if self._prober is asyncio.current_task():
            self._turn_ends()

    def _pause(self, error: Unavailable) -> None:
        self.error = error
        pause_s = self._backoff.pause_s(error.retry_after_s)
        self._probe_at = asyncio.get_running_loop().time() + pause_s

    def _turn_ends(self) -> None:
        self._prober = None
        self._changed.set()
        self._changed = asyncio.Event()
