"""Suspects: events that were in flight at deaths of a worker, and how many of them may run at once.

One of them may have killed it. Most often none did: a deploy, a machine out of memory, a power cut.
So the search for a killer must cost the others no throughput. What was in flight at one death runs
again as if nothing had been. What was there at two deaths is a suspect: of those that died together
no more than half are in flight at the same time from then on, with every other event beside them.
Each further death halves those that were there, until one is left. Four deaths can be chance; after
them that one runs with nothing beside it, after all others, and is a dead letter when it was alone
at two.

Each broker has its own way to know what was in flight.
"""

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Hashable, Mapping
from typing import Any, Protocol

from penstock.errors import EventError
from penstock.signals import SuspectsFound

#: Deaths with only this event in flight, after which the event is a dead letter.
DEAD_AFTER = 2
#: Deaths at which an event was in flight, after which it is a suspect.
SUSPECT_AFTER = 2
#: So many deaths can be chance: nothing is condemned, and no group of suspects waits for another.
#: After more, one goes first, then two side by side, then four: all at once, those that have
#: nothing to do with it would be halved together with the killer.
FEW = 4
#: Seconds after a start in which the suspects arrive, before one begins that others go before.
ARRIVE_S = 1.0


class KilledWorker(EventError):
    """The worker died each time that this event was alone in flight."""

    def __init__(self, deaths: int) -> None:
        super().__init__(f"the worker died {deaths} times while this event was alone in flight")


@dataclasses.dataclass(frozen=True, slots=True)
class Suspect:
    """The deaths at which an event was in flight, by any name that they have, in their order; and
    how often nothing else was."""

    deaths: tuple[Any, ...]
    alone: int = 0

    @property
    def is_killer(self) -> bool:
        return self.alone >= DEAD_AFTER and len(self.deaths) > FEW


def explained(suspects: Mapping[Any, Suspect]) -> dict[Any, Suspect]:
    """Return the suspects that killers among them make less suspect: each death at which a killer
    was in flight was its own doing, and is taken from the others."""
    killers = {key for key, one in suspects.items() if one.is_killer}
    done = {death for key in killers for death in suspects[key].deaths}
    return {
        key: Suspect(tuple(death for death in one.deaths if death not in done), one.alone)
        for key, one in suspects.items()
        if key not in killers and not done.isdisjoint(one.deaths)
    }


class Suspects(Protocol):
    """Knows what was in flight when earlier workers died, and notes what is in flight now."""

    search: "Search"

    def find(self, stage: str, message: Any) -> Hashable | None:
        """Return the suspect that the event of `message` is, for `Search.admitted`, if it is one.
        Raises `KilledWorker` when it must not run at all."""

    def deaths(self, stage: str, message: Any) -> int:
        """Return at how many deaths the event of `message` was in flight, as far as that is
        known."""

    def enter(self, stage: str, message: Any, alone: bool) -> int:
        """Note that the event is in flight. Returns the slot, for `written` and `leave`."""

    def written(self, slot: int) -> Awaitable[None] | None:
        """Return what to await before the step runs, if anything: that the note is durable."""

    def leave(self, slot: int, ended: bool) -> None:
        """Note that the event is not in flight any more: because it has `ended`, or because others
        have it now."""


@dataclasses.dataclass(slots=True)
class Group:
    """Suspects that were in flight at the same deaths, at the last of them `size` together."""

    size: int
    at_once: int
    #: Whether it is one that must have nothing beside it, and how often it was alone at a death.
    is_last: bool
    alone: int
    running: int = 0
    waiting: int = 0

    @property
    def rank(self) -> tuple[bool, int]:
        """Who goes first: the least suspect."""
        return (self.is_last, self.alone if self.is_last else -self.size)


class Search:
    """Finds which of the suspects kills its worker, if any does."""

    def __init__(self) -> None:
        self.concurrency = Concurrency()
        self._suspects: dict[Hashable, Suspect] = {}
        self._deaths: dict[Hashable, int] = {}
        self._killers: dict[Hashable, int] = {}
        self._groups: dict[tuple[Any, ...], Group] = {}
        self._is_patient = True
        #: Groups that this worker has survived: so many more go side by side.
        self._survived = 0
        self._running: set[Hashable] = set()
        self._waiting: set[Hashable] = set()
        self._changed = asyncio.Event()
        self._arrived_at: float | None = None

    def load(self, suspects: Mapping[Any, Suspect]) -> None:
        """From here on, those of `suspects` that were there at enough deaths are all there are."""
        self._deaths = {key: len(one.deaths) for key, one in suspects.items()}
        self._killers = {key: one.alone for key, one in suspects.items() if one.is_killer}
        self._suspects = {
            key: one
            for key, one in suspects.items()
            if len(one.deaths) >= SUSPECT_AFTER and key not in self._killers
        }
        found = self._suspects.values()
        self._is_patient = len({death for one in found for death in one.deaths}) <= FEW
        together = Counter(one.deaths[:n] for one in found for n in range(1, len(one.deaths) + 1))
        self._groups = {}
        for one in found:
            size = together[one.deaths]
            at_once = max(1, (size + self._is_patient) // 2)
            is_last = size == 1 and len(one.deaths) >= FEW
            self._groups[one.deaths] = Group(size, at_once, is_last, one.alone)
        for key in self._running:
            self._count(key, running=1)
        for key in self._waiting:
            self._count(key, waiting=1)
        self._arrived_at = None
        self._survived = 0
        self._notify()

    def find(self, key: Hashable) -> bool:
        """Return whether `key` is a suspect. Raises `KilledWorker` for a killer."""
        if key in self._killers:
            raise KilledWorker(self._killers[key])
        return key in self._suspects

    def deaths(self, key: Hashable) -> int:
        return self._deaths.get(key, 0)

    @property
    def knows_deaths(self) -> bool:
        """Whether anything was in flight at a death."""
        return bool(self._deaths)

    @property
    def is_over(self) -> bool:
        """Whether nothing is suspected."""
        return not (self._suspects or self._killers)

    def found(self) -> SuspectsFound | None:
        """Return what to say of the search, if there is one."""
        if not self._suspects:
            return None
        return SuspectsFound(
            len(self._suspects), max(len(one.deaths) for one in self._suspects.values())
        )

    @contextlib.asynccontextmanager
    async def admitted(self, key: Hashable) -> AsyncIterator[bool]:
        """Inside, the suspect `key` may run; whether it does so with nothing beside it."""
        self._waiting.add(key)
        self._count(key, waiting=1)
        # Those that wait for their turn are all that the order can be made of.
        self._notify()
        try:
            await self._arrival(key)
            while not self._may_run(key):
                await self._changed.wait()
        finally:
            self._waiting.discard(key)
            self._count(key, waiting=-1)
        self._running.add(key)
        self._count(key, running=1)
        group = self._group_of(key)
        try:
            if group is not None and group.is_last:
                async with self.concurrency.alone():
                    yield True
            else:
                await self.concurrency.joined()
                try:
                    yield False
                finally:
                    self.concurrency.leave()
        finally:
            self._running.discard(key)
            self._count(key, running=-1)
            group = self._group_of(key)
            if group is not None and not (group.running or group.waiting):
                self._survived += 1
            self._notify()

    def _group_of(self, key: Hashable) -> Group | None:
        one = self._suspects.get(key)
        return None if one is None else self._groups[one.deaths]

    def _count(self, key: Hashable, running: int = 0, waiting: int = 0) -> None:
        group = self._group_of(key)
        if group is not None:
            group.running += running
            group.waiting += waiting

    async def _arrival(self, key: Hashable) -> None:
        """The others had the time to come, if `key` must let them go before it."""
        group = self._group_of(key)
        if group is None or (self._is_patient and not group.is_last):
            return
        now = asyncio.get_running_loop().time()
        if self._arrived_at is None:
            self._arrived_at = now + ARRIVE_S
        if now < self._arrived_at:
            await asyncio.sleep(self._arrived_at - now)

    def _may_run(self, key: Hashable) -> bool:
        group = self._group_of(key)
        if group is None:
            return True  # it is none any more
        if group.running >= group.at_once:
            return False
        if self._is_patient and not group.is_last:
            return True
        there = [one for one in self._groups.values() if one.running or one.waiting]
        running = sum(one.running > 0 for one in there)
        if not group.is_last and group.running:
            return True
        return running <= (0 if group.is_last else self._survived) and group is min(
            (one for one in there if not one.running), key=lambda one: one.rank
        )

    def _notify(self) -> None:
        self._changed.set()
        self._changed.clear()


class Concurrency:
    """How many events run at the same time: many, or one alone."""

    def __init__(self) -> None:
        self.running = 0
        self._alone = asyncio.Lock()
        self._open = asyncio.Event()
        self._open.set()
        self._closed = False
        self._empty = asyncio.Event()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Inside, no other event runs. Waits for those that do."""
        async with self._alone:
            self._open.clear()
            self._closed = True
            try:
                while self.running:
                    self._empty.clear()
                    await self._empty.wait()
                yield
            finally:
                self._closed = False
                self._open.set()

    def join(self) -> bool:
        """Run with the others, until `leave`. Returns False while an event has to be alone."""
        if self._closed:
            return False
        self.running += 1
        return True

    async def joined(self) -> None:
        """Wait until the event runs with the others."""
        while not self.join():
            await self._open.wait()

    def leave(self) -> None:
        self.running -= 1
        if not self.running:
            self._empty.set()
