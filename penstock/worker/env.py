"""Env: what a stage and its steps are given of the worker around them."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Set

from penstock.broker.suspects import Suspects
from penstock.journal import Journal
from penstock.memory import Memory
from penstock.models.gate import Gates
from penstock.settings import Settings
from penstock.signals import Signals
from penstock.under_way import UnderWay


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Env:
    """All that a stage knows of where it runs. One for all the stages of a worker."""

    settings: Settings
    signals: Signals
    journal: Journal
    gates: Gates
    #: Each is set while there is room for one more event: at the broker, in the event log.
    rooms: tuple[asyncio.Event, ...] = ()
    #: What was in flight when earlier workers died, where the broker keeps that.
    suspects: Suspects | None = None
    #: The keys of runs that end where they are.
    cancelled: Set[bytes] = frozenset()
    #: Opens the agents' memory, once.
    memory: Callable[[], Awaitable[Memory]] | None = None
    #: The worker's name, and the version of Penstock that it is.
    worker: str = ""
    version: str = ""
    #: The steps that are done now.
    under_way: set[UnderWay] = dataclasses.field(default_factory=set)
    #: The consumer's generation: a message of another one is somebody else's.
    generation: Callable[[], int | None] = lambda: None
    #: Whether the broker has events of a topic that no stage here has seen.
    undelivered: Callable[[str], bool] = lambda topic: False
