"""Gates: what a call waits at before it leaves.

An event's tries are for what is wrong with the event. When what it calls is away, every event would
burn its tries for nothing, so nobody but one prober calls until it answers again. That outage is
the one gate there is; each further kind is one more in the list.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from penstock.backoff import Backoff
from penstock.conditions import DOWN, UP, Condition
from penstock.errors import ModelLocked, Unavailable
from penstock.signals import ProviderDown, ProviderUp, Signals

#: Failures in a row, no success between them, after which a provider counts as down.
DOWN_AFTER = 3
#: Seconds before the first probe, and at most between two.
FIRST_PROBE_S, LAST_PROBE_S = 1.0, 60.0


class Gate(Protocol):
    """What calls of one thing wait at. Whoever was let through by `acquire` makes one call, and
    then, in the same task, says once what came of it: `succeeded`, `failed` or `release`."""

    #: Why calls wait, while they do.
    error: Unavailable | None

    @property
    def condition(self) -> Condition:
        """How it is, for people."""

    async def acquire(self) -> None:
        """Wait until the caller may call."""

    def succeeded(self) -> None:
        """There was an answer, be it a refusal."""

    def failed(self, error: Unavailable) -> bool:
        """There was none; True when that says nothing about the caller's event."""

    def release(self) -> None:
        """The caller is gone, and nothing is known."""


class Gates:
    """The gates of everything that is called, made with the first call. One for a worker."""

    def __init__(self, signals: Signals, jitter: Callable[[], float] = random.random) -> None:
        self._signals = signals
        self._jitter = jitter
        self._gates: dict[tuple[str, str], list[Gate]] = {}

    @contextlib.asynccontextmanager
    async def call(
        self, what: str, name: str, explain: Callable[[Exception], Exception] = lambda error: error
    ) -> AsyncIterator[None]:
        """Wait until `name`, a `what`, may be called; inside, call it once.

        `explain` says what an error of the call means, and that is raised. What is `Unavailable`
        then is counted against the gates, and not against the event (`counts` is False) when one of
        them is closed by now. Any other error is an answer: it is there.
        """
        gates = self.of(what, name)
        acquired: list[Gate] = []
        try:
            for gate in gates:
                await gate.acquire()
                acquired.append(gate)
        except BaseException:
            for gate in acquired:
                gate.release()
            raise
        try:
            yield
        except Exception as exc:
            error = explain(exc)
            if isinstance(error, Unavailable):
                closed = [gate.failed(error) for gate in gates]
                error.counts = error.counts and not any(closed)
            else:
                for gate in gates:
                    gate.succeeded()
            if error is exc:
                raise
            raise error from exc
        except BaseException:
            for gate in gates:
                gate.release()
            raise
        for gate in gates:
            gate.succeeded()

    def of(self, what: str, name: str) -> list[Gate]:
        """The gates that a call of `name` passes, in their order."""
        gates = self._gates.get((what, name))
        if gates is None:
            outage = Outage(what, name, self._signals, self._jitter)
            gates = self._gates[what, name] = [outage]
        return gates

    @property
    def conditions(self) -> list[Condition]:
        return [gate.condition for gates in self._gates.values() for gate in gates]

    @property
    def locked(self) -> ModelLocked | None:
        """What calls wait for that only a person can mend."""
        errors = [gate.error for gates in self._gates.values() for gate in gates]
        return next((error for error in errors if isinstance(error, ModelLocked)), None)


class Outage:
    """Whether `name` is up; closed to all but one prober while it is not."""

    def __init__(
        self,
        what: str,
        name: str,
        signals: Signals,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.what = what
        self.name = name
        #: The last failure, and when the first was, while it is down.
        self.error: Unavailable | None = None
        self.since: float | None = None
        self._signals = signals
        self._failures = 0
        self._backoff = Backoff(FIRST_PROBE_S, LAST_PROBE_S, jitter=jitter)
        self._probe_at = 0.0
        #: Who probes. Only it may end its probing: calls that were under way when the outage began
        #: fail late, and must neither let another prober through nor lengthen the pause.
        self._prober: asyncio.Task[Any] | None = None
        self._changed = asyncio.Event()

    @property
    def is_down(self) -> bool:
        return self.since is not None

    @property
    def condition(self) -> Condition:
        if self.error is None:
            return Condition(self.what, UP, self.name)
        # A server's words may be no Unicode, which no file could hold.
        said = self.error.message.encode("utf-8", "replace").decode()
        return Condition(self.what, DOWN, f"{self.name}: {said}", self.since)

    async def acquire(self) -> None:
        """Wait until it is up, or the caller is the one to find out whether it is."""
        while self.is_down:
            if self._prober is not None:
                await self._changed.wait()
                continue
            self._prober = asyncio.current_task()
            try:
                async with asyncio.timeout_at(self._probe_at):
                    await self._changed.wait()  # up already: a call that was under way got through
            except TimeoutError:
                return
            except asyncio.CancelledError:
                self.release()
                raise

    def succeeded(self) -> None:
        """It answered, be it a refusal: it is there."""
        if self.since is not None:
            self._signals.emit(ProviderUp(self.name, time.time() - self.since))
        self._failures, self.since, self.error = 0, None, None
        self._backoff.reset()
        self._end_probe()

    def failed(self, error: Unavailable) -> bool:
        """It did not answer. True when it counts as down: then the try is not counted."""
        self._failures += 1
        if not self.is_down and (self._failures >= DOWN_AFTER or isinstance(error, ModelLocked)):
            self.since = time.time()
            self._signals.emit(ProviderDown(self.name, error.message))
            self._pause(error)
        elif self.is_down and self._prober is asyncio.current_task():
            self._pause(error)
        self.release()
        return self.is_down

    def release(self) -> None:
        """The caller is gone; if it was the prober, another may be."""
        if self._prober is asyncio.current_task():
            self._end_probe()

    def _pause(self, error: Unavailable) -> None:
        self.error = error
        pause_s = self._backoff.pause_s(error.retry_after_s)
        self._probe_at = asyncio.get_running_loop().time() + pause_s

    def _end_probe(self) -> None:
        self._prober = None
        self._changed.set()
        self._changed = asyncio.Event()
