"""The governor: holds back the runs that a timer begins while their readers are behind."""

import asyncio
import logging
import time
import uuid
from typing import TYPE_CHECKING

import msgspec

from penstock.errors import BrokerUnavailable
from penstock.project.chains import Chain, GovernorSpec
from penstock.record.events import NAMESPACE, first_event

if TYPE_CHECKING:
    from penstock.worker.application import PenstockApp

log = logging.getLogger(__name__)

ACTIVE, THROTTLED = "ACTIVE", "THROTTLED"
#: Seconds between two looks at the lag.
LOOK_S = 0.25


class GovernorState(msgspec.Struct, frozen=True):
    """What a governor says in telemetry, and `lag` on the terminal."""

    topic: str
    state: str
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
    """One chain's, in one worker."""

    def __init__(self, app: "PenstockApp", chain: Chain, spec: GovernorSpec) -> None:
        self.app = app
        self.chain = chain
        self.spec = spec
        self.state = ACTIVE
        self._failed = False
        # asyncio keeps only weak references to tasks.
        self._telling: asyncio.Future[bool] | None = None

    async def admit(self) -> bool:
        """The lag is within the limit, now or after a while; whether it had to be waited for."""
        waited = False
        while not self.app.should_stop and await self._look() != ACTIVE:
            waited = True
            await self.app.sleep(LOOK_S)
        return waited

    async def watch_until(self, due: float) -> None:
        """It is `due` (seconds since 1970); until then the state was told as it changed."""
        while not self.app.should_stop and (rest := due - time.time()) > 0:
            await self.app.sleep(min(LOOK_S, rest))
            await self._look()

    async def _look(self) -> str:
        """The state as of now; THROTTLED while there is no lag to be had."""
        try:
            topics = governed(self.chain, self.spec)
            lags = {topic: await self.app.lag(topic) for topic in topics}
        except BrokerUnavailable as exc:
            log.debug("no lag to be had: %s", exc)
            return THROTTLED
        except Exception:
            # A defect of ours must not end the timer, nor let it run without bounds.
            if not self._failed:
                log.exception(
                    "%s: the governor cannot see the lag, and holds back", self.chain.name
                )
            self._failed = True
            return THROTTLED
        self._failed = False
        topic = max(lags, key=lambda topic: lags[topic])
        seen = judge(self.spec, topic, lags[topic])
        await self._note(seen)
        return seen.state

    async def _note(self, seen: GovernorState) -> None:
        if seen.state == self.state:
            return
        self.state = seen.state
        log.warning(
            "🛑 LAG TOO HIGH. Throttling... %s: %d events of '%s' are not finished, the limit is %d"
            if seen.state == THROTTLED
            else "▶ Lag is down. %s goes on: %d events of '%s' are not finished, the limit is %d",
            self.chain.name,
            seen.lag,
            seen.topic,
            seen.limit,
            extra={"action": "governor", "state": seen.state},
        )
        await self._tell(seen)

    async def _tell(self, seen: GovernorState) -> None:
        """An event on the telemetry topic, of a run that is the governor's own."""
        topic = self.chain.telemetry
        if topic is None:
            return
        name = f"governor|{self.app.settings.app_id}|{self.chain.name}"
        event = first_event(
            self.chain.name,
            {topic: {"kind": "governor", **msgspec.to_builtins(seen)}},
            str(uuid.uuid5(NAMESPACE, name)),
            "governor",
        )
        event = msgspec.structs.replace(event, id=str(uuid.uuid4()))
        # A state that cannot be told is in the log; the work does not wait for it.
        self._telling = asyncio.ensure_future(self.app.begin(topic, event))
