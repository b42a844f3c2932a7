"""The governor: holds back the runs that a timer begins while their stages are behind."""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from penstock.errors import BrokerUnavailable
from penstock.project.chains import Chain, GovernorSpec
from penstock.signals import GovernorBlind, GovernorChanged, Signals
from penstock.worker.life import Life

log = logging.getLogger(__name__)

State = Literal["ACTIVE", "THROTTLED"]
ACTIVE: State = "ACTIVE"
THROTTLED: State = "THROTTLED"
#: Seconds between two looks at the lag.
LOOK_S = 0.25


class GovernorState(msgspec.Struct, frozen=True):
    """How a governor is, for `lag` on the terminal."""

    topic: str
    state: State
    lag: int
    limit: int


def governed(chain: Chain, spec: GovernorSpec) -> list[str]:
    """The topics that are looked at: the governor's, and the one on which the timer begins its
    runs, where they gather while the first agent's model is away."""
    return list(dict.fromkeys((spec.topic, chain.entry_of(chain.seed or ()))))


def judge(spec: GovernorSpec, topic: str, lag: int) -> GovernorState:
    """The state that follows from a topic's lag: more than the limit throttles."""
    return GovernorState(topic, THROTTLED if lag > spec.limit else ACTIVE, lag, spec.limit)


class Governor:
    """One chain's, in one worker. `lag` is how many events of a topic are not finished; it raises
    `BrokerUnavailable`."""

    def __init__(
        self,
        chain: Chain,
        spec: GovernorSpec,
        lag: Callable[[str], Awaitable[int]],
        life: Life,
        signals: Signals,
    ) -> None:
        self.chain = chain
        self.spec = spec
        self.state: State = ACTIVE
        self._lag = lag
        self._life = life
        self._signals = signals
        self._is_blind = False

    async def admit(self) -> bool:
        """The lag is within the limit, now or after a while; whether it had to be waited for."""
        waited = False
        while not self._life.is_over() and await self._look() != ACTIVE:
            waited = True
            await self._life.sleep(LOOK_S)
        return waited

    async def watch_until(self, due: float) -> None:
        """It is `due` (seconds since 1970); until then each change of the state was said."""
        while not self._life.is_over() and (rest := due - time.time()) > 0:
            await self._life.sleep(min(LOOK_S, rest))
            await self._look()

    async def _look(self) -> State:
        """The state as of now; THROTTLED while there is no lag to be had."""
        try:
            lags = {topic: await self._lag(topic) for topic in governed(self.chain, self.spec)}
        except BrokerUnavailable as exc:
            log.debug("no lag to be had: %s", exc)
            return THROTTLED
        except Exception as exc:
            # A defect of ours must not end the timer, nor let it run without bounds.
            if not self._is_blind:
                self._signals.emit(GovernorBlind(self.chain.name, exc))
            self._is_blind = True
            return THROTTLED
        self._is_blind = False
        topic = max(lags, key=lambda topic: lags[topic])
        seen = judge(self.spec, topic, lags[topic])
        if seen.state != self.state:
            self.state = seen.state
            self._signals.emit(
                GovernorChanged(self.chain.name, topic, seen.state, seen.lag, seen.limit)
            )
        return seen.state
