"""What every system of the field is asked to do, and the count of the runs that it has done."""

import abc
import asyncio
import pathlib
import time
import uuid
from typing import Self

from bench.calls import CALLS
from bench.figures import Options, Result
from bench.projects import STAGES


class Chain(abc.ABC):
    """Four calls in a row in some system: a started one, inside `async with`."""

    #: Runs that have begun and not ended, at most, while the system is kept busy.
    ahead = 2000

    def __init__(self, folder: pathlib.Path, options: Options) -> None:
        self.name = f"bench-{folder.name}"
        self.call = CALLS[options.get("call", "instant")]
        self.begun = self.ended = 0
        self._target = 0
        self._reached = asyncio.Event()
        self._room = asyncio.Event()
        self._waited: dict[str, asyncio.Future[float]] = {}
        self._failed: Exception | None = None

    @abc.abstractmethod
    async def start(self) -> None:
        """The system is at work, also on what a killed process has left."""

    @abc.abstractmethod
    async def stop(self) -> None:
        """The system is at rest, and leaves nothing outside the folder."""

    @abc.abstractmethod
    async def begin(self, id_: str) -> None:
        """A run is handed over; `has_ended` is called at its end."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def has_ended(self, id_: str) -> None:
        self.ended += 1
        self._room.set()
        waiting = self._waited.pop(id_, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(time.perf_counter())
        if self.ended == self._target:
            self._reached.set()

    async def feed(self, count: int) -> None:
        """`count` runs have ended, and the system was never short of work until the last ones."""
        self._target = self.ended + count
        self._reached.clear()
        for number in range(count):
            while self.begun - self.ended >= self.ahead and self._failed is None:
                self._room.clear()
                await self._room.wait()
            self.begun += 1
            await self.begin(str(uuid.uuid4()))
            if number % 100 == 99:
                await asyncio.sleep(0)
        await self._reached.wait()
        if self._failed is not None:
            raise self._failed

    async def saturate(self, count: int) -> Result:
        """Steps a second, and CPU seconds of all threads for 1,000 steps, over `count` runs."""
        started, cpu = time.perf_counter(), time.process_time()
        await self.feed(count)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        steps = count * STAGES
        return {"steps_per_s": steps / seconds, "cpu_s_per_1000": cpu / steps * 1000}

    async def one(self) -> float:
        """One run from its beginning to its end, in seconds."""
        id_ = str(uuid.uuid4())
        ended = self._waited[id_] = asyncio.get_running_loop().create_future()
        self.begun += 1
        started = time.perf_counter()
        await self.begin(id_)
        return await ended - started


class TaskChain(Chain):
    """A system without a queue of its own: each run is a task of the process that begins it."""

    #: More runs at once only wait for SQLite: with 50, DBOS does half as much.
    ahead = 10

    def __init__(self, folder: pathlib.Path, options: Options) -> None:
        super().__init__(folder, options)
        # asyncio keeps only weak references to tasks.
        self._tasks: set[asyncio.Task[None]] = set()

    @abc.abstractmethod
    async def run(self, id_: str) -> None:
        """The run has ended durably."""

    async def begin(self, id_: str) -> None:
        task = asyncio.create_task(self._run(id_))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, id_: str) -> None:
        try:
            await self.run(id_)
        except Exception as exc:
            waiting = self._waited.pop(id_, None)
            if waiting is not None:
                waiting.set_exception(exc)
            else:
                # Whoever feeds waits for all runs, and this one has no end.
                self._failed = exc
                self._room.set()
                self._reached.set()
        else:
            self.has_ended(id_)
