"""Seeding: the runs that nobody submits. Each pipeline's seed, once; and a timer's, when due."""

import asyncio
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec

from penstock.project.chains import Chain
from penstock.record.events import NAMESPACE, Event, first_event, seed_trace_id
from penstock.settings import Settings
from penstock.signals import RunSeeded, RunSeededBefore, RunTimed, Signals
from penstock.worker.application import PenstockApp
from penstock.worker.governor import Governor
from penstock.worker.life import Begin, Life

#: Seconds before it is looked again whether a pipeline's steps are ready.
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
    """Begin each pipeline's seed, unless that was done at an earlier start."""
    await app.wait(_of(app).seed_all(_chains(app)))


async def run_timers(app: PenstockApp) -> None:
    """Begin a run of each pipeline with a timer whenever it is due, until the app is stopping."""
    await app.wait(_of(app).time_all(_chains(app)))


def _of(app: PenstockApp) -> "Seeding":
    return Seeding(
        app.settings,
        app.begin,
        lambda chain: app.readiness.of(chain.stages),
        app.lag,
        app.life,
        app.signals,
    )


def _chains(app: PenstockApp) -> list[Chain]:
    chains = app.project.chains.values()
    return begun_here(chains, app.settings.start) if app.only is None else []


def begun_here(chains: Iterable[Chain], named: Iterable[str]) -> list[Chain]:
    """The pipelines that a worker seeds and times: those that are `named` (PENSTOCK_START), or else
    all but those with `start: manual`."""
    names = set(named)
    return [
        chain for chain in chains if (chain.name in names if names else chain.start == "automatic")
    ]


class Seeding:
    """Begins the runs of pipelines that have a seed. From the moment that the worker is stopping it
    begins none: its broker goes before its tasks do."""

    def __init__(
        self,
        settings: Settings,
        begin: Begin,
        is_ready: Callable[[Chain], Awaitable[bool]],
        lag: Callable[[str], Awaitable[int]],
        life: Life,
        signals: Signals,
    ) -> None:
        self._settings = settings
        self._begin = begin
        self._is_ready = is_ready
        self._lag = lag
        self._life = life
        self._signals = signals

    async def seed_all(self, chains: Iterable[Chain]) -> None:
        """The seed of each of `chains` has begun its run, now or at an earlier start."""
        # Side by side: on Kafka each is the business of whoever has its partition.
        await asyncio.gather(*(self.seed(chain) for chain in chains if chain.seed is not None))

    async def time_all(self, chains: Iterable[Chain]) -> None:
        """Begin a run of each of `chains` that has a timer, whenever it is due."""
        timers = [
            self.run_timer(chain, every_s)
            for chain in chains
            if chain.seed is not None and (every_s := self._settings.every_s or chain.every_s)
        ]
        await asyncio.gather(*timers)

    async def seed(self, chain: Chain) -> None:
        assert chain.seed is not None
        settings = self._settings
        if settings.seed == "0" or not await self._until_ready(chain):
            return
        trace_id = seed_trace_id(settings.app_id, chain.name, _canonical(chain.seed))
        if settings.seed == "again":
            trace_id = str(uuid.uuid4())
        event = first_event(chain.name, chain.seed, trace_id, "initiate_pipeline_once")
        begun = await self._begin_to_its_end(chain, event, kept=True)
        kind = RunSeeded if begun else RunSeededBefore
        self._signals.emit(kind(trace_id, chain.name))

    async def run_timer(self, chain: Chain, every_s: float) -> None:
        """A run at each multiple of `every_s`, named after its due time: however often the worker
        is restarted, one due time makes one run."""
        assert chain.seed is not None
        due = math.floor(time.time() / every_s) * every_s
        governor = None
        if chain.governor is not None:
            governor = Governor(chain, chain.governor, self._lag, self._life, self._signals)
        while not self._life.is_over():
            if not await self._until_ready(chain):
                return
            if governor is not None and await governor.admit():
                due = max(due, math.floor(time.time() / every_s) * every_s)
            name = f"timer|{self._settings.app_id}|{chain.name}|{every_s}|{due:.3f}"
            trace_id = str(uuid.uuid5(NAMESPACE, name))
            event = first_event(chain.name, chain.seed, trace_id, "create_runs_at_interval")
            if await self._begin_to_its_end(chain, event):
                self._signals.emit(RunTimed(trace_id, chain.name))
            # A machine that slept does not make up for what it missed.
            due = max(due + every_s, math.floor(time.time() / every_s) * every_s)
            if governor is None:
                await self._life.sleep(max(0.0, due - time.time()))
            else:
                await governor.watch_until(due)

    async def _until_ready(self, chain: Chain) -> bool:
        """The pipeline's steps are ready, now or after a while; False when the worker stops. Else
        its agents would be paid for what has to wait."""
        while not self._life.is_over():
            if await self._is_ready(chain):
                return True
            await self._life.sleep(AGAIN_S)
        return False

    async def _begin_to_its_end(self, chain: Chain, event: Event, *, kept: bool = False) -> bool:
        """Begin, also when the worker stops meanwhile: what stands is in the event log."""
        return await asyncio.shield(self._begin(chain, event, kept=kept))


def _canonical(seed: dict[str, Any]) -> str:
    return msgspec.json.encode(seed, order="sorted").decode()
