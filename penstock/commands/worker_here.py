"""A worker in this process, for commands that need one where none is running."""

import functools
import logging
from typing import TYPE_CHECKING

from penstock.client import Client
from penstock.commands.command import Context
from penstock.errors import ModelLocked, WorkerRunning
from penstock.worker.console import on_one_line

if TYPE_CHECKING:
    from penstock.worker.application import PenstockApp


class WorkerHere:
    """Inside `async with`, a worker in this process, once one was needed and no other was there. It
    does the work of `pipeline` only, seeds nothing, runs no timer, and is gone afterwards."""

    def __init__(self, context: Context, pipeline: str) -> None:
        self._context = context
        self._pipeline = pipeline
        self._working: PenstockApp | None = None

    async def __aenter__(self) -> "WorkerHere":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._working is not None:
            await self._working.stop()

    async def work_if_nobody_does(self, client: Client) -> None:
        """A worker runs: the one that is there, or else this one."""
        if self._working is not None or client.worker_running():
            return
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
        for handler in logging.getLogger().handlers:
            redact = self._context.settings.redact
            handler.addFilter(functools.partial(on_one_line, redact=redact))
        app = self._context.app
        # Whoever asked for one run has not asked to pay for what others have put on.
        app.only = self._pipeline
        try:
            app.prepare()
        except WorkerRunning:
            return  # somebody was quicker
        self._working = app
        await app.start()

    def complain_of_locks(self, trace_id: str) -> None:
        """Raises what keeps the run from going on when only a person can mend that: it stays where
        it is."""
        locked = None if self._working is None else self._working.gates.locked
        if locked is not None:
            raise ModelLocked(
                f"{locked.message}. The run {trace_id} waits: when it is mended, a worker goes on"
                " with it (penstock worker)."
            )
