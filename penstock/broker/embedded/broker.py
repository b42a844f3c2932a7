"""A worker's life on the embedded broker, where it is the only one: the file, its retention."""

import asyncio
import logging
import sqlite3
import time
from typing import TYPE_CHECKING

from faust.types import TP

from penstock.broker.embedded.crash_file import FileSuspects
from penstock.broker.embedded.renames import Introduction, introduce
from penstock.broker.embedded.retention import delete_finished
from penstock.broker.embedded.store import Store
from penstock.broker.embedded.transport import Transport
from penstock.errors import ChainError
from penstock.journal import EmbeddedJournal
from penstock.record import cancels
from penstock.record import dead_letters as deadletters

if TYPE_CHECKING:
    from penstock.worker.application import PenstockApp

log = logging.getLogger(__name__)

#: More records than anybody reads from one partition at once.
MANY = 10**9


class SoleWorker:
    """The app as the one worker of an embedded file."""

    def __init__(self, app: "PenstockApp") -> None:
        self.app = app
        self.settings = app.settings
        self._journal: EmbeddedJournal | None = None
        #: How many events were in flight when the last worker died.
        self._left_behind = 0
        self._introduced: list[Introduction] = []

    @property
    def store(self) -> Store:
        transport = self.app.transport
        assert isinstance(transport, Transport)
        return transport.store

    @property
    def journal(self) -> EmbeddedJournal:
        if self._journal is None:
            self._journal = EmbeddedJournal(self.store)
        return self._journal

    def open(self) -> None:
        """The file is ours, its topics are there, and what was in flight at a crash is known.
        Raises `PenstockError` with what to do."""
        app, store = self.app, self.store
        store.lock.take()
        there = store.topics()
        for chain in app.project.chains.values():
            counts = {name: there[name] for name in chain.topics if name in there}
            if len(set(counts.values())) > 1:
                listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
                raise ChainError(
                    f"{chain.file}: the topics of '{chain.name}' have unequal partition counts"
                    f" ({listed}), so a run would not stay in one partition. Rename the topics"
                    " that were added, or start with an empty database: PENSTOCK_DATA."
                )
            # Topics that are there keep their partitions, and new ones get as many.
            count = next(iter(counts.values()), self.settings.partitions)
            for name in chain.topics:
                store.create(name, count)
        store.create(deadletters.topic_name(self.settings.app_id), self.settings.partitions)
        topic = cancels.topic_name(self.settings.app_id)
        store.create(topic, self.settings.partitions)
        app.cancelled |= {
            key or b""
            for partition in range(store.partitions(topic) or 0)
            for _, _, key, _, _ in store.read(TP(topic, partition), 0, MANY)
        }
        self._introduced = introduce(store, app.readers)
        suspects = FileSuspects(store, [spec.name for spec in app.project.stages])
        self._left_behind = suspects.convict()
        app.suspects = suspects

    def tell(self) -> None:
        """What was found when the file was opened; nobody sees what is logged before Faust has set
        logging up."""
        if self._left_behind:
            log.warning(
                "The last worker died with %d events in flight; they are taken up again",
                self._left_behind,
            )
        for one in self._introduced:
            log.warning("%s", one)

    async def lag(self, topic: str) -> int:
        """How many events of `topic` are not finished by all of its readers."""
        store = self.store
        count = 0
        for partition in range(store.partitions(topic) or 0):
            tp = TP(topic, partition)
            end = store.end(tp)
            readers = self.app.readers.get(topic, ())
            count += max((store.position(name, tp).unfinished(end) for name in readers), default=0)
        return count

    async def delete_finished_runs(self, every_s: float) -> None:
        """Now and then, what finished longer ago than the retention."""
        app = self.app
        pipelines = [
            {topic: app.readers.get(topic, ()) for topic in chain.topics}
            for chain in app.project.chains.values()
        ]
        while not app.should_stop:
            before_s = time.time() - self.settings.retention_s
            gone: set[bytes] = set()
            try:
                count = await asyncio.to_thread(
                    delete_finished,
                    self.store,
                    pipelines,
                    before_s,
                    cancels.topic_name(self.settings.app_id),
                    gone,
                )
            except sqlite3.Error as exc:
                log.warning("Retention is put off: %s", exc)
            else:
                # A job of that name is another one from here on.
                app.cancelled -= gone
                if count:
                    log.info("Retention: deleted %d records of finished runs", count)
            await app.sleep(every_s)
