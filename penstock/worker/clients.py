"""Clients: what steps call outside of the worker, opened for the first that does."""

import asyncio
import gc
import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from penstock.conditions import STARTING, Condition
from penstock.errors import Unavailable
from penstock.memory import Memory, has_notes_to_deliver
from penstock.models.gate import Gates
from penstock.models.prices import Price, Prices
from penstock.settings import Settings

if TYPE_CHECKING:
    from penstock.models.providers import Providers


class Clients:
    """The providers of models, and the agents' memory: most pipelines have none."""

    def __init__(
        self, settings: Settings, gates: Gates, prices: Mapping[str, Price] | None = None
    ) -> None:
        self._settings = settings
        self._gates = gates
        self._prices = Prices(prices)
        self._providers: Providers | None = None
        self._memory: Memory | None = None
        self._importing: asyncio.Future[Any] | None = None

    async def runner(self) -> Any:
        """The module of the runner, with the SDK behind it. Raises `Unavailable` when that cannot
        be imported."""
        if self._importing is None:
            # Half of what a worker costs to start: in a thread, else the loop would stand still for
            # seconds on a busy machine, and Kafka take the worker for dead.
            importing = asyncio.to_thread(_import_runner, self._prices)
            self._importing = asyncio.ensure_future(importing)
        imported = self._importing
        await asyncio.wait((imported,))  # others wait for it, too: it is not cancelled with us
        try:
            return imported.result()
        except Exception as exc:  # half an installation fails in any way
            self._importing = None
            raise Unavailable(f"the OpenAI Agents SDK cannot be imported: {exc}") from exc

    @property
    def providers(self) -> "Providers":
        if self._providers is None:
            # For a command that asks for no model, the SDK is not imported.
            from penstock.models.providers import Providers

            settings = self._settings
            self._providers = Providers(
                *(settings.redact, self._gates, settings.calls_at_once, self._prices)
            )
        return self._providers

    async def memory(self) -> Memory:
        if self._memory is None:
            self._memory = Memory(self._settings)
            await self._memory.start()
        return self._memory

    async def deliver_notes(self) -> None:
        """What earlier workers could not deliver is on its way, whether or not a step of this one
        needs the memory."""
        if await asyncio.to_thread(has_notes_to_deliver, self._settings):
            await self.memory()

    @property
    def conditions(self) -> Iterator[Condition]:
        """How the memory and the engines of local models are; the providers' are their gates'."""
        if self._providers is not None:
            yield from self._providers.conditions
        if self._memory is not None:
            status = self._memory.status
            state = STARTING if status.state == "opening" else status.state
            yield Condition("memory", state, str(status), status.since)

    async def close(self) -> None:
        """Nothing of them is under way any more."""
        if self._providers is not None:
            await self._providers.close()
        if self._memory is not None:
            await self._memory.close()


def _import_runner(prices: Prices) -> Any:
    runner = importlib.import_module("penstock.worker.runner")
    prices.load()
    # What the SDK brought stays for the worker's life: no collection need look at it again.
    gc.freeze()
    return runner
