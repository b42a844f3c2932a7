"""The fake model of the benchmarks, the same for Penstock and for what it is held against."""

import asyncio
from collections.abc import Awaitable, Callable

#: What every call answers: 2 KB.
TEXT = "x" * 2000
#: Seconds that one call of `answer_slowly` takes.
SLOW_S = 0.2
#: Called at every slow answer; who measures a recovery listens.
listeners: list[Callable[[], None]] = []

Call = Callable[[], Awaitable[str]]


async def answer_at_once() -> str:
    return TEXT


async def answer_slowly() -> str:
    await asyncio.sleep(SLOW_S)
    for listener in listeners:
        listener()
    return TEXT


#: By the name that a case gives.
CALLS: dict[str, Call] = {"instant": answer_at_once, "slow": answer_slowly}
