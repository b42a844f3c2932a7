"""The steps of the benchmarks. Each makes one call, which is journalled, and answers 2 KB."""

import asyncio

from bench.calls import TEXT, answer_at_once, answer_slowly
from penstock.steps import Work, step


class Gate:
    """Calls wait here until somebody opens it."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self._waiting = 0
        self._changed = asyncio.Event()

    async def passage(self) -> None:
        self._waiting += 1
        self._changed.set()
        await self.opened.wait()

    async def has_waiting(self, count: int) -> None:
        """So many calls wait here now."""
        while self._waiting < count:
            self._changed.clear()
            await self._changed.wait()


gate = Gate()


async def answer_when_open() -> str:
    await gate.passage()
    return TEXT


@step("instant")
async def instant(work: Work) -> str:
    return str(await work.call("answer", answer_at_once))


@step("slow")
async def slow(work: Work) -> str:
    return str(await work.call("answer", answer_slowly))


@step("gated")
async def gated(work: Work) -> str:
    return str(await work.call("answer", answer_when_open))
