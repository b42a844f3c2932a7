"""Drift: what changes under a worker while it runs, and is said once and shown by `status`."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator

from penstock.broker.contract import Unread
from penstock.conditions import WARNING, Condition
from penstock.errors import BrokerUnavailable
from penstock.project.files import differing, way_out
from penstock.project.project import Project
from penstock.signals import EventsUnread, FilesChanged, Signals
from penstock.worker.life import Life

log = logging.getLogger(__name__)

#: Seconds between two looks at topics that no stage reads, and at the project's files.
LOOK_S = 10.0
FILES_S = 2.0


class Drift:
    """Of one worker and its project, which is as it was read. `unread` asks the broker what waits
    on topics that no stage reads."""

    def __init__(
        self,
        project: Project,
        unread: Callable[[], Awaitable[list[Unread]]],
        life: Life,
        signals: Signals,
    ) -> None:
        self._project = project
        self._ask_for_unread = unread
        self._life = life
        self._signals = signals
        self._unread: list[Unread] = []
        self._changed: tuple[str, ...] = ()

    @property
    def conditions(self) -> Iterator[Condition]:
        for one in self._unread:
            yield Condition("topics", WARNING, str(one))
        if self._changed:
            changed = FilesChanged(self._changed, way_out(self._changed))
            yield Condition("project", WARNING, str(changed))

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

    async def watch_files(self) -> None:
        """Say which of the project's files are not as this worker has read them, once a change."""
        seen = self._project.files
        while not self._life.is_over():
            now = await asyncio.to_thread(self._project.digest_files)
            changed = differing(self._project.files, now)
            if now != seen and (changed or self._changed):
                self._signals.emit(FilesChanged(changed, way_out(changed)))
            self._changed, seen = changed, now
            await self._life.sleep(FILES_S)
