"""The lease: whether a worker's partitions are still its own, by the clock.

When a process was suspended (SIGSTOP, a machine that slept) for longer than the session, the group
has taken it for dead and given its partitions to others. It must make no call before it has asked
the group.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable


class Lease:
    """Held from `begin` until the clock shows that the process was suspended for too long. `clock`
    gives seconds, and goes on while the process is suspended."""

    def __init__(self, session_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        #: Seconds of silence after which the group takes a worker for dead.
        self.session_s = session_s
        #: When the process last looked at the clock; 0 before the first `begin`.
        self._seen = 0.0
        self._clock = clock
        self._held = asyncio.Event()

    def begin(self) -> None:
        """Hold the lease: the group has just said which partitions are ours."""
        self._seen = self._clock()
        self._held.set()

    def is_lost(self) -> bool:
        """Return whether no call may be made and nothing sent before `wait` returns."""
        if self._was_away():
            self._held.clear()
        return not self._held.is_set()

    async def wait(self) -> None:
        """Wait until the lease is held."""
        await self._held.wait()

    def _was_away(self) -> bool:
        # The last heartbeat may have been a quarter of the session before.
        return bool(self._seen) and self._clock() - self._seen > 0.6 * self.session_s

    async def watch(self, lost: Callable[[], Awaitable[None]]) -> None:
        """Look at the clock, for ever, and call `lost` once each time that the lease is lost."""
        while True:
            await asyncio.sleep(self.session_s / 8)
            if not self._seen:
                continue
            if self.is_lost():
                await lost()
                await self.wait()
            else:
                self._seen = self._clock()
