"""Whether a worker's partitions are still its own, by the clock.

A process that was suspended (SIGSTOP, a machine that slept) for longer than the session has been
taken for dead by the group, and somebody else has its events. It must not pay for them before it
has asked.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable


class Lease:
    """Held from `begin` until the process is seen to have been away for too long. `clock` gives
    seconds and goes on while the process is suspended."""

    def __init__(self, session_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        #: Seconds of silence after which the group takes a worker for dead.
        self.session_s = session_s
        #: When this process was last seen at work; nothing before the first `begin`.
        self._seen = 0.0
        self._clock = clock
        self._held = asyncio.Event()

    def begin(self) -> None:
        """The group has said what is ours."""
        self._seen = self._clock()
        self._held.set()

    def is_lost(self) -> bool:
        """Whether nothing may go out; then `wait`."""
        if self._was_away():
            self._held.clear()
        return not self._held.is_set()

    async def wait(self) -> None:
        """It is held (again)."""
        await self._held.wait()

    def _was_away(self) -> bool:
        # The last heartbeat may have been a quarter of the session before.
        return bool(self._seen) and self._clock() - self._seen > 0.6 * self.session_s

    async def watch(self, lost: Callable[[], Awaitable[None]]) -> None:
        """Looks at the clock, for ever; `lost` is called once each time that it is lost."""
        while True:
            await asyncio.sleep(self.session_s / 8)
            if not self._seen:
                continue
            if self.is_lost():
                await lost()
                await self.wait()
            else:
                self._seen = self._clock()
