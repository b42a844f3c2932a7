"""Seeding: the runs that nobody submits. Each pipeline's seed, once; and a timer's, when due."""

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Coroutine
from typing import Any

import msgspec

from penstock.project.chains import Chain
from penstock.record.events import NAMESPACE, Event, first_event, seed_trace_id
from penstock.worker.application import PenstockApp
from penstock.worker.governor import Governor

log = logging.getLogger(__name__)

#: Seconds before it is looked again whether a pipeline's steps can do what they do.
AGAIN_S = 10.0


def add_seeding(app: PenstockApp) -> None:
    """The app seeds its pipelines when it has started, and again whenever a timer is due."""

    @app.task
    async def initiate_pipeline_once() -> None:
        await begin_seeds(app)

    @app.task
    async def create_runs_at_interval() -> None:
        await run_timers(app)


async def begin_seeds(app: PenstockApp) -> None:
    """Begin each pipeline's seed, unless that was done. From the moment that the app is told to
    stop none is begun: its broker goes before its tasks do."""
    # Side by side: on Kafka each is the business of whoever has its partition.
    await app.wait(_all([_seed(app, chain) for chain in app.starts if chain.seed is not None]))


async def run_timers(app: PenstockApp) -> None:
    """Begin a run of each pipeline with a timer whenever it is due, until the app is told to
    stop."""
    timers = [
        _run_timer(app, chain, every_s)
        for chain in app.starts
        if chain.seed is not None and (every_s := app.settings.every_s or chain.every_s)
    ]
    await app.wait(_all(timers))


async def _all(work: list[Coroutine[Any, Any, None]]) -> None:
    # In a coroutine, whose cancelling is quiet: a gathering future's is complained of.
    await asyncio.gather(*work)


async def _seed(app: PenstockApp, chain: Chain) -> None:
    assert chain.seed is not None
    if app.settings.seed == "0" or not await _can_run(app, chain):
        return
    trace_id = seed_trace_id(app.settings.app_id, chain.name, _canonical(chain.seed))
    if app.settings.seed == "again":
        trace_id = str(uuid.uuid4())
    event = first_event(chain.name, chain.seed, trace_id, "initiate_pipeline_once")
    if await _begin(app, chain, event, kept=True):
        log.info("run %s: seeded %s", trace_id, chain.name, extra={"action": "seeded"})
    else:
        log.info(
            "%s was seeded before, as run %s (PENSTOCK_SEED=again seeds it anew)",
            chain.name,
            trace_id,
        )


async def _can_run(app: PenstockApp, chain: Chain) -> bool:
    """The pipeline's steps can do what they do, now or after a while; False when the worker stops.
    Else its agents would be paid for what has to wait."""
    while not app.should_stop:
        if await app.readiness.of(chain.stages):
            return True
        await app.sleep(AGAIN_S)
    return False


async def _run_timer(app: PenstockApp, chain: Chain, every_s: float) -> None:
    """A run at each multiple of `every_s`, named after its due time: however often the worker is
    restarted, one due time makes one run."""
    assert chain.seed is not None
    due = math.floor(time.time() / every_s) * every_s
    governor = None if chain.governor is None else Governor(app, chain, chain.governor)
    while not app.should_stop:
        if not await _can_run(app, chain):
            return
        if governor is not None and await governor.admit():
            due = max(due, math.floor(time.time() / every_s) * every_s)
        trace_id = str(
            uuid.uuid5(NAMESPACE, f"timer|{app.settings.app_id}|{chain.name}|{every_s}|{due:.3f}")
        )
        event = first_event(chain.name, chain.seed, trace_id, "create_runs_at_interval")
        if await _begin(app, chain, event):
            log.info("run %s: started by the timer of %s", trace_id, chain.name)
        # A machine that slept does not make up for what it missed.
        due = max(due + every_s, math.floor(time.time() / every_s) * every_s)
        if governor is None:
            await app.sleep(max(0.0, due - time.time()))
        else:
            await governor.watch_until(due)


async def _begin(app: PenstockApp, chain: Chain, event: Event, *, kept: bool = False) -> bool:
    """Begun, to its end also when the worker stops: what stands is in the event log."""
    return await asyncio.shield(app.begin(chain.entry_of(event.parts), event, kept=kept))


def _canonical(seed: dict[str, Any]) -> str:
    return msgspec.json.encode(seed, order="sorted").decode()
