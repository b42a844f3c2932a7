"""Gates: what a call waits at before it leaves.

An event's tries are for what is wrong with the event. When what it calls is away, every event would
burn its tries for nothing; when it is busy, every refusal would be answered by another call. So
there are three gates, and evidence decides which one closes. `Outage`: it is down. Nobody calls but
a probe now and then, each with another event, until one is answered. `Pace`: it is busy. Calls go
out by a rate that it took. `AtOnce`: it is slow. Fewer calls are in flight at once. What is none of
these is bad: one call that fails while others are answered uses up its own tries, and nobody waits
for it.
"""

import asyncio
import contextlib
import math
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple, Protocol

from penstock.backoff import Backoff
from penstock.conditions import DOWN, UP, Condition
from penstock.errors import ModelBusy, ModelFailed, ModelLocked, Unavailable
from penstock.record.steps import OUTAGE, PACE, SLOTS
from penstock.signals import ProviderBusy, ProviderDown, ProviderSlow, ProviderUp, Signals
from penstock.under_way import step_under_way

#: Different runs whose calls failed, with no success between them, after which it is down.
DOWN_AFTER_RUNS = 2
#: The same for failures of one run, where they say that it is away: there may be no other run.
DOWN_AFTER = 3
#: Seconds before the first probe, and at most between two.
FIRST_PROBE_S, LAST_PROBE_S = 1.0, 10.0

#: Seconds of which the calls that were taken are the rate that it takes.
WINDOW_S = 1.0
#: What is left of a rate that was taken: a little below it, so that it stays so.
BELOW = 0.95
#: How much more is tried after `FIRST_MORE_S` seconds without a refusal; until the rate was refused
#: once, it is doubled each `WINDOW_S`. When more is refused, the next time is twice as far away,
#: up to `LAST_MORE_S`.
MORE, FIRST_MORE_S, LAST_MORE_S = 1.1, 10.0, 80.0
#: Seconds without a refusal after which calls go out as they come again.
FREE_AFTER_S = 600.0


class Gate(Protocol):
    """What calls of one thing wait at. Whoever was let through by `acquire` makes one call, and
    then says once what came of it: `succeeded`, `failed` or `release`. `began` is when the call
    left, by the loop's clock."""

    #: The word for what is waited for here, on the record of a step.
    kind: str
    #: Why calls wait, while they do.
    error: Unavailable | None

    @property
    def condition(self) -> Condition | None:
        """How it is, for people, if there is anything to say."""

    def waits(self) -> tuple[str, float | None]:
        """What those who wait here wait for, and until when, in seconds since 1970, if that is
        known."""

    async def acquire(self) -> None:
        """Wait until the caller may call. Asked again before its call, it waits only for what has
        happened since."""

    def succeeded(self, began: float, timeout_s: float = math.inf) -> None:
        """There was an answer, be it a refusal, to a call that could take `timeout_s`."""

    def failed(self, error: Unavailable, began: float) -> bool:
        """There was none; True when it waits here from now on."""

    def release(self) -> None:
        """The caller is gone, and nothing is known."""


class Gates:
    """The gates of everything that is called, made with the first call. One for a worker."""

    def __init__(self, signals: Signals, jitter: Callable[[], float] = random.random) -> None:
        self.signals = signals
        self._jitter = jitter
        self._gates: dict[tuple[str, str], list[Gate]] = {}

    @contextlib.asynccontextmanager
    async def call(
        self,
        what: str,
        name: str,
        explain: Callable[[Exception], Exception] = lambda error: error,
        at_once: int | None = None,
        timeout_s: float = math.inf,
    ) -> AsyncIterator[None]:
        """Wait until `name`, a `what`, may be called; inside, call it once, within `timeout_s`.

        At the first call of it, `at_once` says how many may be in flight; None: as many as come.
        `explain` says what an error of the call means, and that is raised. What is `Unavailable`
        then is told to the gates. Only a `ModelFailed` counts against the event: anything else that
        is unavailable says that `name` is. Any other error is an answer: it is there.
        """
        gates, step = self.of(what, name, at_once), step_under_way.get()
        try:
            # Who waited at the last may find one before it closed by now.
            for gate in (*gates, *gates[:-1]):
                if step is None:
                    await gate.acquire()
                    continue
                step.waits, since = gate.waits, time.time()
                await gate.acquire()
                step.held(gate.kind, name, since)
        except BaseException:
            for gate in gates:
                gate.release()
            raise
        finally:
            if step is not None:
                step.waits = None
        began = asyncio.get_running_loop().time()
        try:
            yield
        except Exception as exc:
            error = explain(exc)
            if isinstance(error, Unavailable):
                closed = [gate.failed(error, began) for gate in gates]
                error.gated = any(closed)
                error.counts = error.counts and isinstance(error, ModelFailed)
            else:
                for gate in gates:
                    gate.succeeded(began, timeout_s)
            if error is exc:
                raise
            raise error from exc
        except BaseException:
            for gate in gates:
                gate.release()
            raise
        for gate in gates:
            gate.succeeded(began, timeout_s)

    def of(self, what: str, name: str, at_once: int | None = None) -> list[Gate]:
        """The gates that a call of `name` passes, in their order."""
        gates = self._gates.get((what, name))
        if gates is None:
            # Who waits at the last ones keeps its place at the first, so nobody there waits for it.
            gates = self._gates[what, name] = [
                AtOnce(what, name, self.signals, at_once),
                Outage(what, name, self.signals, self._jitter),
                Pace(what, name, self.signals),
            ]
        return gates

    @property
    def conditions(self) -> list[Condition]:
        found = (gate.condition for gates in self._gates.values() for gate in gates)
        return [condition for condition in found if condition is not None]

    @property
    def locked(self) -> ModelLocked | None:
        """What calls wait for that only a person can mend."""
        errors = [gate.error for gates in self._gates.values() for gate in gates]
        return next((error for error in errors if isinstance(error, ModelLocked)), None)


def _wall_clock(at: float) -> float:
    """`at` by the loop's clock, in seconds since 1970."""
    return time.time() + max(0.0, at - asyncio.get_running_loop().time())


class AtOnce:
    """How many calls of `name` are in flight: `limit` at first, and one more with each answer while
    others wait. Half of them when one takes too long, and from then on one more when all of them
    were answered: a queue in the server answers well until it is too long. An answer that took half
    of its time is no reason for more: the next calls wait behind it."""

    kind = SLOTS
    error: Unavailable | None = None

    def __init__(self, what: str, name: str, signals: Signals, limit: int | None = None) -> None:
        self.what = what
        self.name = name
        self.limit: float = limit or math.inf
        self._signals = signals
        self._calling: set[asyncio.Task[Any] | None] = set()
        self._waiting: deque[tuple[asyncio.Task[Any] | None, asyncio.Future[None]]] = deque()
        self._halved_at = -math.inf

    @property
    def condition(self) -> Condition | None:
        waiting = len(self._waiting)
        if not waiting:
            return None
        reason = f"{self.name} has {len(self._calling)} calls at once, {waiting} wait"
        return Condition(self.what, UP, reason)

    def waits(self) -> tuple[str, float | None]:
        return f"its turn: {self.name} has {len(self._calling)} calls at once", None

    async def acquire(self) -> None:
        """Wait for the caller's place, in the order of coming. Whoever has one keeps it."""
        task = asyncio.current_task()
        if task in self._calling:
            return
        me = (task, asyncio.get_running_loop().create_future())
        self._waiting.append(me)
        self._admit()
        try:
            await me[1]
        finally:
            if me in self._waiting:
                self._waiting.remove(me)

    def _admit(self) -> None:
        while self._waiting and len(self._calling) + 1 <= self.limit:
            task, goes = self._waiting.popleft()
            if not goes.done():
                self._calling.add(task)
                goes.set_result(None)

    def succeeded(self, began: float, timeout_s: float = math.inf) -> None:
        """There was an answer. Where there was room to spare, that says nothing about more."""
        took_s = asyncio.get_running_loop().time() - began
        if len(self._calling) + 1 > self.limit and took_s < timeout_s / 2:
            self.limit += 1 if self._halved_at == -math.inf else 1 / self.limit
        self.release()

    def failed(self, error: Unavailable, began: float) -> bool:
        """If it took too long beside others, there are half as many from here on; not again for
        those that left before."""
        at_once = min(self.limit, len(self._calling))
        if isinstance(error, ModelFailed) and error.timed_out and began >= self._halved_at:
            self._halved_at = asyncio.get_running_loop().time()
            if at_once > 1:
                self.limit = at_once // 2
                self._signals.emit(ProviderSlow(self.name, int(self.limit)))
        self.release()
        return False

    def release(self) -> None:
        self._calling.discard(asyncio.current_task())
        self._admit()


def _run() -> str:
    """The run whose call it is: two failures of one run are no more evidence than one."""
    step = step_under_way.get()
    return step.trace_id if step is not None else ""


class Waiting(NamedTuple):
    """Who waits for an answer, and for its own chance to get one."""

    run: str
    goes: "asyncio.Future[None]"


class Outage:
    """Whether `name` is up; closed to all but a probe now and then while it is not."""

    kind = OUTAGE

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
        #: The runs that have failed in a row, how often one found it away, and when that began.
        self._runs: set[str] = set()
        self._absent = 0
        self._row_began: float | None = None
        self._backoff = Backoff(FIRST_PROBE_S, LAST_PROBE_S, jitter=jitter)
        self._down_at = self._probe_at = 0.0
        self._waiting: list[Waiting] = []
        self._last_probed = ""
        self._probing: set[asyncio.Task[Any] | None] = set()
        self._timer: asyncio.TimerHandle | None = None

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

    def waits(self) -> tuple[str, float | None]:
        return self.condition.reason, _wall_clock(self._probe_at)

    async def acquire(self) -> None:
        """Wait until it is up, or the caller is the one to find out whether it is."""
        task = asyncio.current_task()
        while self.is_down and task not in self._probing:
            me = Waiting(_run(), asyncio.get_running_loop().create_future())
            self._waiting.append(me)
            self._set_timer()
            try:
                await me.goes
            finally:
                self._waiting.remove(me)
            if self.is_down:
                self._probing.add(task)

    def succeeded(self, began: float, timeout_s: float = math.inf) -> None:
        """It answered, be it a refusal: it is there, unless the call left before it failed."""
        self.release()
        if self._row_began is not None and began < self._row_began:
            return
        self._runs.clear()
        self._absent, self._row_began = 0, None
        if self.since is None:
            return
        self._signals.emit(ProviderUp(self.name, time.time() - self.since))
        self.since, self.error = None, None
        self._backoff.reset()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for one in self._waiting:
            if not one.goes.done():
                one.goes.set_result(None)

    def failed(self, error: Unavailable, began: float) -> bool:
        """It did not answer. True when it counts as down."""
        if isinstance(error, ModelBusy) or (isinstance(error, ModelFailed) and error.answered):
            self.succeeded(began)  # somebody is there to say so
            return False
        self.release()
        if isinstance(error, ModelFailed) and error.timed_out and not self.is_down:
            return False  # it took the call: too slow for it, or for its card, is not away
        now = asyncio.get_running_loop().time()
        if self._row_began is None:
            self._row_began = now
        self._runs.add(_run())
        self._absent += not isinstance(error, ModelFailed)
        if self.is_down:
            if began >= self._down_at:  # else it was under way, and says nothing new
                self.error = error
                self._probe_at = max(self._probe_at, now + (error.retry_after_s or 0.0))
                self._set_timer()
        elif (
            error.unreached
            or isinstance(error, ModelLocked)
            or len(self._runs) >= DOWN_AFTER_RUNS
            or self._absent >= DOWN_AFTER
        ):
            self.since, self._down_at, self.error = time.time(), now, error
            self._probe_at = now + self._backoff.pause_s(error.retry_after_s)
            self._signals.emit(ProviderDown(self.name, error.message))
        return self.is_down

    def release(self) -> None:
        self._probing.discard(asyncio.current_task())

    def _set_timer(self) -> None:
        """The next probe goes when it is time, if anybody waits by then."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(self._probe_at, self._probe)

    def _probe(self) -> None:
        """One of those who wait finds out: not the one that did so last, where there are others. It
        may fail for a reason of its own."""
        self._timer = None
        waiting = [one for one in self._waiting if not one.goes.done()]
        if not waiting:
            return
        one = next((one for one in waiting if one.run != self._last_probed), waiting[0])
        self._last_probed = one.run
        one.goes.set_result(None)
        # However long its answer takes, the next one goes in time.
        self._probe_at = asyncio.get_running_loop().time() + self._backoff.pause_s()
        if len(waiting) > 1:
            self._set_timer()


class Pace:
    """How many calls a second `name` takes: all that come, until it refuses some as too many."""

    kind = PACE
    error: Unavailable | None = None

    def __init__(self, what: str, name: str, signals: Signals) -> None:
        self.what = what
        self.name = name
        #: Calls a second, while they are held to a rate.
        self.rate: float | None = None
        self._signals = signals
        #: When calls left that were not refused so far, in the last `WINDOW_S` seconds.
        self._left: deque[float] = deque()
        self._waiting = 0
        self._queue = asyncio.Lock()
        self._next_at = 0.0
        #: When the rate was last set, and whether that was to try more.
        self._set_at = 0.0
        self._is_trial = False
        #: Seconds without a refusal before more is tried, and how much.
        self._more_s, self._more = WINDOW_S, 2.0

    @property
    def condition(self) -> Condition | None:
        if self.rate is None:
            return None
        reason = f"{self.name} is busy: {self.rate:.3g} calls a second, {self._waiting} wait"
        return Condition(self.what, UP, reason)

    def waits(self) -> tuple[str, float | None]:
        condition = self.condition
        return condition.reason if condition else self.name, _wall_clock(self._next_at)

    async def acquire(self) -> None:
        """Wait for the caller's place: calls go out in the order of their coming."""
        now = asyncio.get_running_loop().time
        if self.rate is not None:
            self._waiting += 1
            try:
                async with self._queue:
                    # A refusal can move it meanwhile.
                    while self.rate is not None and now() < self._next_at:  # noqa: ASYNC110
                        await asyncio.sleep(min(self._next_at - now(), WINDOW_S))
                    self._go(now())
            finally:
                self._waiting -= 1
        self._left.append(now())
        while self._left[0] <= now() - WINDOW_S:
            self._left.popleft()

    def _go(self, now: float) -> None:
        """Note the next one's place, and try a little more where nothing was refused for long."""
        if self.rate is None:
            return
        quiet_s = now - self._set_at
        if quiet_s >= FREE_AFTER_S:
            self.rate = None
        else:
            if quiet_s >= self._more_s and self._waiting > 1:
                self._set(self.rate * self._more, now, is_trial=True)
            self._next_at = max(self._next_at, now - 1 / self.rate) + 1 / self.rate

    def _set(self, rate: float, now: float, is_trial: bool = False) -> None:
        self.rate, self._set_at, self._is_trial = rate, now, is_trial

    def succeeded(self, began: float, timeout_s: float = math.inf) -> None:
        pass

    def failed(self, error: Unavailable, began: float) -> bool:
        """It refused a call as one too many. True when calls are held to a rate from now on."""
        if not isinstance(error, ModelBusy):
            return False
        now = asyncio.get_running_loop().time()
        # It was noted in `acquire`, a moment before it left.
        noted = next((at for at in reversed(self._left) if at <= began), None)
        if noted is not None:
            self._left.remove(noted)
        taken = sum(at > now - WINDOW_S for at in self._left) / WINDOW_S
        if self.rate is None:
            self._signals.emit(ProviderBusy(self.name, error.message))
            self._set(max(taken * BELOW, 1.0), now)
        elif began <= self._set_at:
            # A burst is refused one by one, and each refusal tells better how much of it was taken.
            if now - self._set_at < WINDOW_S and 0 < taken * BELOW < self.rate:
                self.rate = taken * BELOW
        elif self._is_trial:
            # After a doubling the truth is between; a refusal is dearer than a slow call.
            was = self.rate / self._more if self._more == MORE else self.rate * 0.6
            self._more_s = (
                min(LAST_MORE_S, self._more_s * 2) if self._more == MORE else FIRST_MORE_S
            )
            self._more = MORE
            self._set(min(max(was, taken * BELOW), self.rate * BELOW), now)
        else:
            self._set(max(min(taken * BELOW, self.rate * 0.9), self.rate / 2), now)
        at = now + (error.retry_after_s or 0.0)
        self._next_at = max(self._next_at, at)
        return True

    def release(self) -> None:
        pass
