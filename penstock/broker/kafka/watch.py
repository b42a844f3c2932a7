"""Outages of Kafka: noticed, logged once at each end, and waited for."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from penstock.broker.kafka.connection import check_access
from penstock.errors import SettingsError
from penstock.signals import BrokerDown, BrokerUp, Signals

#: Seconds between tries while Kafka does not answer: doubled each time, up to the last.
FIRST_PAUSE_S, LAST_PAUSE_S = 0.5, 4.0
#: Seconds that Kafka has for an answer before it counts as away.
ANSWER_S = 3.0
#: How aiokafka's log lines in an outage begin; it writes about 100 a second.
COMPLAINTS = (
    "Error sending",
    "Failed fetch ",
    "Got error produce response",
    "Group Coordinator Request failed",
    "Heartbeat ",
    "LeaveGroup request failed",
    "Marking the coordinator dead",
    "OffsetCommit failed",
    "Topic ",
    "Unable connect",
    "Unable to ",
)


class Quiet(logging.Filter):
    """Drops aiokafka's log lines about an outage, and calls `complained` for each."""

    def __init__(self, complained: Callable[[], None]) -> None:
        super().__init__()
        self.complained = complained

    def filter(self, record: logging.LogRecord) -> bool:
        if not str(record.msg).startswith(COMPLAINTS):
            return True
        self.complained()
        return False


class Watch:
    """Knows whether Kafka answers. `up` is set while it does."""

    def __init__(self, connection: Mapping[str, Any], signals: Signals) -> None:
        self._signals = signals
        self.up = asyncio.Event()
        #: Why it is away, and since when (seconds since 1970), while it is.
        self.reason = ""
        self.down_since: float | None = None
        self._connection = connection
        self._name = ", ".join(connection["bootstrap_servers"])
        self._doubt = asyncio.Event()
        self._since = 0.0
        self._refused = False
        #: A running worker also waits when it is refused: what it holds must not be lost.
        self._patient = False
        self._quiet: Quiet | None = None

    async def until_it_answers(self, stopping: Callable[[], bool]) -> None:
        """Wait until Kafka answers or `stopping` is true; log once when it does not at once.
        Raises `SettingsError` for what no waiting mends: a password or a certificate that is
        refused."""
        pause_s = FIRST_PAUSE_S
        while not stopping():
            error: Exception | None
            try:
                error = await self.ask()
            except SettingsError as exc:
                if not self._patient:
                    raise
                error = exc
            if error is None:
                self._answers()
                return
            self._is_away(error)
            # Scattered, so that the workers of a cluster do not come back all at once.
            await asyncio.sleep(pause_s * (0.75 + random.random() / 2))
            pause_s = min(LAST_PAUSE_S, pause_s * 2)

    def listen(self) -> None:
        """Drop aiokafka's log lines about outages from here on; `run` looks after each."""
        loop = asyncio.get_running_loop()

        def complained() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._doubt.set)

        self._quiet = Quiet(complained)
        for logger in _aiokafka():
            logger.addFilter(self._quiet)

    async def run(self, stopping: Callable[[], bool], slow: Callable[[], bool]) -> None:
        """Ask Kafka whenever aiokafka complains, or `slow` says that a send has waited for long.
        When Kafka refuses this worker, log that and ask again."""
        self._patient = True
        while not stopping():
            if self._doubt.is_set() or slow():
                self._doubt.clear()
                await self.until_it_answers(stopping)
            await asyncio.sleep(FIRST_PAUSE_S)

    def close(self) -> None:
        """Let aiokafka's log lines through again."""
        if self._quiet is not None:
            for logger in _aiokafka():
                logger.removeFilter(self._quiet)

    async def ask(self) -> Exception | None:
        """Return why Kafka does not answer now, None when it does. Raises `SettingsError` for a
        password or a certificate that is refused."""
        client = AIOKafkaClient(**self._connection)
        try:
            await asyncio.wait_for(client.bootstrap(), ANSWER_S)
        except (KafkaError, TimeoutError, OSError) as exc:
            await check_access(self._connection)
            return exc
        finally:
            await client.close()
        return None

    def _is_away(self, error: Exception) -> None:
        refused = isinstance(error, SettingsError)
        if self._since and (self._refused or not refused):
            return
        self._since = self._since or time.monotonic()
        self._refused = refused
        self.reason = str(error) or type(error).__name__
        self.down_since = self.down_since or time.time()
        self.up.clear()
        self._signals.emit(BrokerDown(f"Kafka at {self._name}", self.reason))

    def _answers(self) -> None:
        if self._since:
            seconds = time.monotonic() - self._since
            self._signals.emit(BrokerUp(f"Kafka at {self._name}", seconds))
            self._since, self._refused = 0.0, False
            self.reason, self.down_since = "", None
        self.up.set()


def _aiokafka() -> list[logging.Logger]:
    names = list(logging.root.manager.loggerDict)
    return [logging.getLogger(name) for name in names if name.split(".")[0] == "aiokafka"]
