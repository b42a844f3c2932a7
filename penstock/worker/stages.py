"""All stages of a worker together, as its broker sees them."""

import asyncio
import logging
from collections.abc import Collection
from typing import Any

from penstock.worker.stage import Stage

log = logging.getLogger(__name__)


class Stages(dict[str, Stage]):
    """The stages by name. `drain_s` is how long calls in flight are waited for at the end."""

    def __init__(self, drain_s: float) -> None:
        super().__init__()
        self.drain_s = drain_s
        #: The keys of runs that end where they are.
        self.cancelled: set[bytes] = set()

    @property
    def names(self) -> list[str]:
        return list(self)

    def hold(self) -> None:
        for stage in self.values():
            stage.hold()

    def resume(self) -> None:
        for stage in self.values():
            stage.resume()

    def on_seek(self) -> None:
        for stage in self.values():
            stage.sought()

    async def pause(self, limit_s: float) -> None:
        await asyncio.gather(*(stage.pause(limit_s) for stage in self.values()))

    async def release(self, kept: Collection[Any]) -> int:
        return sum([await stage.release(kept) for stage in self.values()])

    async def cancel(self, key: bytes) -> int:
        """The run ends where it is: its calls are cut off, its events finished without outputs; how
        many events those were."""
        self.cancelled.add(key)
        return sum([await stage.cancel(key) for stage in self.values()])

    async def drain(self) -> None:
        busy = sum(stage.in_flight for stage in self.values())
        if busy:
            log.info("Waiting up to %g s for %d events in flight", self.drain_s, busy)
        left = sum(await asyncio.gather(*(stage.drain(self.drain_s) for stage in self.values())))
        if left:
            log.warning(
                "%d events were not finished in %g s (PENSTOCK_DRAIN_S); they are taken up again"
                " by the next worker",
                left,
                self.drain_s,
            )
