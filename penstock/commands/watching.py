"""Watching: what a run does now, for whoever waits for it on a terminal."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator

from penstock.commands.command import Context
from penstock.worker.health import steps_of

#: Seconds between looks. Workers say what they do twice a second.
LOOK_S = 0.25


class Watch:
    """The run that is watched, once there is one."""

    trace_id = ""


@contextlib.asynccontextmanager
async def watching(context: Context, trace_id: str = "") -> AsyncIterator[Watch]:
    """Inside, the last lines of a terminal say what the run does now. Nothing is said of it where
    programs read."""
    watch = Watch()
    watch.trace_id = trace_id
    if context.as_json or not sys.stderr.isatty():
        yield watch
        return
    from rich.console import Group
    from rich.live import Live

    from penstock.commands.screens import line_under_way, progress

    async def look(live: Live) -> None:
        settings = context.settings
        while True:
            steps = await asyncio.to_thread(
                steps_of, settings.data, settings.app_id, watch.trace_id
            )
            now = time.time()
            live.update(Group(*(line_under_way(step, now) for step in steps)), refresh=True)
            await asyncio.sleep(LOOK_S)

    # What others print meanwhile stands above. stdout is for what was asked for.
    with Live(console=progress, auto_refresh=False, transient=True, redirect_stdout=False) as live:
        looking = asyncio.create_task(look(live))
        try:
            yield watch
        finally:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking
