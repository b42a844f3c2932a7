"""A lane: one thread for calls that block, taken in their order."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Lane:
    """Runs jobs one at a time in a thread of its own, begun with the first of them.

    A daemon thread, unlike an executor's: a server that hangs must not keep the process from
    ending.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None
        self._job_began: float | None = None

    @property
    def running_s(self) -> float:
        """For how long the job that is under way has been; 0 when there is none."""
        began = self._job_began
        return 0.0 if began is None else time.monotonic() - began

    async def run(self, job: Callable[[], T]) -> T:
        """What `job` returns or raises. When the caller is cancelled, a job that has begun goes on,
        and one that has not is left out."""
        future: Future[T] = Future()
        self._jobs.put((job, future))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
            self._thread.start()
        return await asyncio.wrap_future(future)

    def end(self) -> None:
        """The thread ends after the jobs that it has; a later job begins another."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread = None

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, future = item
            if not future.set_running_or_notify_cancel():
                continue
            self._job_began = time.monotonic()
            try:
                result = job()
            except BaseException as exc:
                self._job_began = None
                future.set_exception(exc)
            else:
                self._job_began = None
                future.set_result(result)
            del item, job, future  # the last job's result is not kept until the next comes
