"""Readiness: whether the steps of a pipeline have what they declare that they need (`ready=`)."""

import asyncio
from collections.abc import Iterable

from penstock.conditions import DOWN, UP, Condition
from penstock.errors import PenstockError
from penstock.models.gate import Gates
from penstock.project.chains import StageSpec
from penstock.settings import Settings
from penstock.signals import Signals, StepNotReady, StepReady
from penstock.steps import Registry
from penstock.worker.work import awaitable


class Readiness:
    """The steps of one worker: each is asked until it is ready, and what it says is remembered."""

    def __init__(
        self, registry: Registry, settings: Settings, gates: Gates, signals: Signals
    ) -> None:
        self._ready = registry.ready
        self._settings = settings
        self._gates = gates
        self._signals = signals
        self._known: dict[str, Condition] = {}
        # One at a time: what is looked at may be the machine's.
        self._asking = asyncio.Lock()

    async def of(self, stages: Iterable[StageSpec]) -> bool:
        """Whether the steps of all of `stages` are ready. One that is not is said once."""
        names = {name for spec in stages for name in (spec.step, spec.check) if name is not None}
        async with self._asking:
            return all([await self._is_ready(name) for name in sorted(names & self._ready.keys())])

    async def _is_ready(self, name: str) -> bool:
        if name in self._closed:
            return False  # the calls that wait there find out when it is back
        known = self._known.get(name)
        if known is not None and known.state == UP:
            return True
        try:
            detail = await awaitable(self._ready[name])(self._settings)
        except PenstockError as exc:
            if known is None:
                self._signals.emit(StepNotReady(name, exc.message))
            self._known[name] = Condition(name, DOWN, exc.message)
            return False
        self._known[name] = Condition(name, UP, detail)
        self._signals.emit(StepReady(name, detail))
        return True

    @property
    def _closed(self) -> set[str]:
        return {one.what for one in self._gates.conditions if one.state == DOWN}

    @property
    def conditions(self) -> list[Condition]:
        """How the gates are, and the steps. A closed gate says more of its step than that it was
        ready once, and that says more than a gate that is open."""
        closed, gates = self._closed, self._gates.conditions
        found = [one for one in gates if one.what in closed or one.what not in self._known]
        return found + [one for one in self._known.values() if one.what not in closed]
