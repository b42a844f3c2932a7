"""A worker in this process, for commands that need one where none is running."""

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from penstock.client import Client
from penstock.errors import WorkerRunning
from penstock.worker.application import PenstockApp


@contextlib.asynccontextmanager
async def worker_here(
    app: PenstockApp, pipeline: str
) -> AsyncIterator[Callable[[Client], Awaitable[None]]]:
    """Gives a call after which a worker runs: the one that is there, or else one in this process,
    which does the work of `pipeline` only, seeds nothing, runs no timer, and is gone afterwards."""
    working = False

    async def work_if_nobody_does(client: Client) -> None:
        nonlocal working
        if working or client.worker_running():
            return
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
        # Whoever asked for one run has not asked to pay for what others have put on.
        app.only = pipeline
        try:
            app.prepare()
        except WorkerRunning:
            return  # somebody was quicker
        working = True
        await app.start()

    try:
        yield work_if_nobody_does
    finally:
        if working:
            await app.stop()
