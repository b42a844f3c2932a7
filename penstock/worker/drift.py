"""Drift: what changes under a worker while it runs, and is said once and shown by `status`."""

import logging
from collections.abc import Awaitable, Callable, Iterator

from penstock.broker.contract import Unread
from penstock.conditions import WARNING, Condition
from penstock.errors import BrokerUnavailable
from penstock.signals import EventsUnread, Signals
from penstock.worker.life import Life

log = logging.getLogger(__name__)

#: Seconds between two looks at topics that no stage reads.
LOOK_S = 10.0


class Drift:
    """Of one worker. `unread` asks the broker what waits on topics that no stage reads."""

    def __init__(
        self, unread: Callable[[], Awaitable[list[Unread]]], life: Life, signals: Signals
    ) -> None:
        self._ask_for_unread = unread
        self._life = life
        self._signals = signals
        self._unread: list[Unread] = []

    @property
    def conditions(self) -> Iterator[Condition]:
        for one in self._unread:
            yield Condition("topics", WARNING, str(one))

    async def watch_topics(self) -> None:
        """Say what waits on topics that no stage reads: at the start, and what is new there."""
        while not self._life.is_over():
            try:
                unread = await self._ask_for_unread()
            except BrokerUnavailable as exc:
                log.debug("not known what no stage reads: %s", exc)  # the broker's state is said
            else:
                for one in unread:
                    if one not in self._unread:
                        self._signals.emit(EventsUnread(one.topic, str(one)))
                self._unread = unread
            await self._life.sleep(LOOK_S)
