"""The lease: whether a worker's partitions are still its own, by the clock.

When a process was suspended (SIGSTOP, a machine that slept) for longer than the session, the group
has taken it for dead and given its partitions to others. It must make no call before it has asked
the group. A loop that is busy is no such absence: the heartbeats come from another thread. So a
thread looks at the clock, too, and only when nothing of the process has looked for so long was it
away.
"""

import asyncio
import threading
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
        self._was_away = False
        self._clock = clock
        self._held = asyncio.Event()

    def begin(self) -> None:
        """Hold the lease: the group has just said which partitions are ours."""
        self._seen = self._clock()
        self._was_away = False
        self._held.set()

    def is_lost(self) -> bool:
        """Return whether no call may be made and nothing sent before `wait` returns."""
        self.look()
        if self._was_away:
            self._held.clear()
        return not self._held.is_set()

    async def wait(self) -> None:
        """Wait until the lease is held."""
        await self._held.wait()

    def look(self) -> None:
        """Look at the clock, from any thread: a look that comes too long after the last one finds
        that the process was away."""
        if not self._seen:
            return
        now = self._clock()
        # The last heartbeat may have been a quarter of the session before.
        if now - self._seen > 0.6 * self.session_s:
            self._was_away = True
        else:
            self._seen = now

    async def watch(self, lost: Callable[[], Awaitable[None]]) -> None:
        """Look at the clock, for ever, and call `lost` once each time that the lease is lost."""
        ended, pause_s = threading.Event(), self.session_s / 8

        def beside() -> None:
            while not ended.wait(pause_s):
                self.look()

        threading.Thread(target=beside, name="penstock-lease", daemon=True).start()
        try:
            while True:
                await asyncio.sleep(pause_s)
                if self._seen and self.is_lost():
                    await lost()
                    await self.wait()
        finally:
            ended.set()
