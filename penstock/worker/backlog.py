"""The backlog of a stage: a stage that goes after another waits until that one has none."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

#: Seconds between looks at a backlog of which nothing is heard: what was left of it may have gone
#: to another worker.
LOOK_AGAIN_S = 0.5


class Backlog:
    """The events of one topic that its stage has not taken: at the broker, as far as this worker
    has its partitions and has heard of them, or here."""

    def __init__(self, topic: str, undelivered: Callable[[str], bool]) -> None:
        self.topic = topic
        #: The stage's buffer, once there is one.
        self.queue: Any = None
        #: An event was taken out of the buffer, and waits for room.
        self.in_hand = False
        #: Something was dropped that comes again, or goes elsewhere, at the next seek.
        self.dropped = False
        #: Another stage waits for this one.
        self.is_watched = False
        self._undelivered = undelivered
        self._cleared = asyncio.Event()

    def is_open(self) -> bool:
        """Whether there is any."""
        if self.in_hand or self.dropped:
            return True
        if self.queue is not None and not self.queue.empty():
            return True
        return self._undelivered(self.topic)

    def look(self) -> None:
        """The buffer is empty: wake whoever waits, if nothing is left."""
        if self.is_watched and not self.is_open():
            self._cleared.set()

    async def clear(self) -> None:
        """Wait until there is none."""
        while self.is_open():
            self._cleared.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_S):
                    await self._cleared.wait()
