"""Turns: a stage that goes after another takes nothing while that one has events to take."""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.worker.application import PenstockApp

#: Seconds between looks at a stage that goes first, when it says nothing: what it had not taken
#: may have gone to another worker.
LOOK_AGAIN_S = 0.5


class Turn:
    """How far one stage is with taking its events, and whom it goes after."""

    def __init__(self, app: "PenstockApp", topic: str) -> None:
        self.app = app
        self.topic = topic
        #: The stage's buffer, once there is one.
        self.queue: Any = None
        #: An event was taken out of the buffer, and waits for room.
        self.in_hand = False
        #: Something was dropped that comes again, or goes elsewhere, at the next seek.
        self.dropped = False
        self._ahead: Turn | None = None
        self._leads = False
        self._caught_up = asyncio.Event()

    def follow(self, ahead: "Turn") -> None:
        """From here on this stage goes after that one."""
        self._ahead = ahead
        ahead._leads = True

    def is_behind(self) -> bool:
        """Whether there are events for the stage that it has not taken: at the broker, as far as
        this worker has its partitions and has heard of them, or here."""
        if self.in_hand or self.dropped:
            return True
        if self.queue is not None and not self.queue.empty():
            return True
        consumer: Any = self.app.consumer  # one of our two
        return bool(consumer.undelivered(self.topic))

    def look(self) -> None:
        """The buffer is empty: whoever goes after is told when nothing is left."""
        if self._leads and not self.is_behind():
            self._caught_up.set()

    async def come(self) -> bool:
        """It is the stage's turn; whether it had to be waited for."""
        if self._ahead is None or not self._ahead.is_behind():
            return False
        await self._ahead._catch_up()
        return True

    async def _catch_up(self) -> None:
        while self.is_behind():
            self._caught_up.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_S):
                    await self._caught_up.wait()
