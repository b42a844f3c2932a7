"""A worker's membership of the embedded broker, where it is the only one: the file, retention."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

import faust

from penstock.broker.contract import Location, Plan, Stages, Unread
from penstock.broker.embedded.crash_file import FileSuspects
from penstock.broker.embedded.file import identity
from penstock.broker.embedded.journal import EmbeddedJournal
from penstock.broker.embedded.renames import introduce, unread
from penstock.broker.embedded.retention import delete_finished
from penstock.broker.embedded.store import Store
from penstock.broker.embedded.transport import Transport
from penstock.broker.embedded.writer import KNOWN, TAKEN
from penstock.broker.tp import TP
from penstock.conditions import DOWN, UP, Condition
from penstock.errors import BrokerUnavailable, ChainError, DatabaseUnusable
from penstock.record.events import begun_before, content_of
from penstock.settings import Settings
from penstock.signals import CrashFound, Signals, StageJoined, StageLeft

#: More records than anybody reads from one partition at once.
MANY = 10**9
#: Seconds between looks whether the file is still the same.
LOOK_S = 1.0


class SoleWorker:
    """`Membership` of the one worker of an embedded file."""

    suspects: FileSuspects
    _stages: Stages
    _transport: Transport

    def __init__(self, settings: Settings, plan: Plan, signals: Signals) -> None:
        self.settings = settings
        self.plan = plan
        self._signals = signals
        self._journal: EmbeddedJournal | None = None
        #: How many events were in flight when the last worker died.
        self._left_behind = 0
        self._introduced: list[StageJoined | StageLeft] = []

    def name_of(self, topic: str) -> str:
        return topic

    def faust_settings(self) -> dict[str, Any]:
        return {"broker": self.settings.broker_url}

    def attach(self, app: faust.App, stages: Stages) -> Transport:
        self._stages = stages
        self._transport = Transport(
            app.conf.broker_consumer,
            app,
            readers=self.plan.readers,
            on_seek=stages.on_seek,
            signals=self._signals,
        )
        return self._transport

    @property
    def store(self) -> Store:
        """The file, opened when it is first needed."""
        return self._transport.store

    @property
    def journal(self) -> EmbeddedJournal:
        if self._journal is None:
            self._journal = EmbeddedJournal(self.store, self.plan.steps)
        return self._journal

    # -- life

    def check(self) -> None:
        """Lock the file, make missing topics, and find what was in flight at a crash."""
        store, stages = self.store, self._stages
        store.lock.take()
        there = store.topics()
        for pipeline in self.plan.pipelines:
            counts = {name: there[name] for name in pipeline.topics if name in there}
            if len(set(counts.values())) > 1:
                listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
                raise ChainError(
                    f"{pipeline.file}: the topics of '{pipeline.name}' have unequal partition"
                    f" counts ({listed}), so a run would not stay in one partition. Rename the"
                    " topics that were added, or start with an empty database: PENSTOCK_DATA."
                )
            # Topics that are there keep their partitions, and new ones get as many.
            count = next(iter(counts.values()), self.settings.partitions)
            for name in pipeline.topics:
                store.create(name, count)
        for topic in (self.plan.dead_letters, self.plan.cancels):
            store.create(topic, self.settings.partitions)
        topic = self.plan.cancels
        stages.cancelled |= {
            key or b""
            for partition in range(store.partitions(topic) or 0)
            for _, _, key, _, _ in store.read(TP(topic, partition), 0, MANY)
        }
        self._introduced = introduce(store, self.plan.readers)
        self.suspects = FileSuspects(store, self.plan.stages)
        self._left_behind = self.suspects.count_deaths()

    async def reach(self) -> None:
        """What was found when the file was opened is said now: nobody sees what is logged before
        Faust has set logging up."""
        if self._left_behind:
            self._signals.emit(CrashFound(self._left_behind))
        if suspects := self.suspects.search.found():
            self._signals.emit(suspects)
        for one in self._introduced:
            self._signals.emit(one)

    def background(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        return (self._watch_file,)

    async def _watch_file(self) -> None:
        """End the worker when its file is removed, or another one put in its place: what it would
        do from here on, nobody would find."""
        path = self.store.path
        ours = identity(path)
        while True:
            await asyncio.sleep(LOOK_S)
            now = await asyncio.to_thread(identity, path)
            if now != ours or self.store.overwritten:
                self._stages.hold()
                await self._stages.release(())  # what is in flight is not called done
                what = "was removed" if now is None else "was replaced by another file"
                if now == ours:
                    what = "was overwritten by another file"
                raise DatabaseUnusable(
                    f"{path} {what} while this worker had it open, so the worker stops: nobody"
                    " would find what it does. Put the file back, if you have it; penstock worker"
                    " goes on with the one that is there"
                )

    async def assigned(self) -> None:
        pass  # every partition is this worker's, always

    async def give_up(self, consumer: Any, stopping: bool) -> None:
        await self._stages.drain()

    async def flush(self, flushing: Awaitable[None], stopping: bool) -> None:
        await flushing

    async def close(self) -> None:
        await asyncio.to_thread(self.store.close)

    # -- what it does

    async def begin(
        self, topic: str, id_: str, key: bytes, value: bytes, *, kept: bool = False
    ) -> Location | None:
        store = self.store
        tp = TP(topic, store.partition_of(topic, key))
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def durable(offset: int) -> None:
            if not future.done():  # a worker that stops cancels who waits here
                future.set_result(offset)

        store.submit(id_, tp, key, value, durable, kept=kept, content=content_of(value))
        if not store.running:
            store.commit_now()
        offset = await future
        if offset == TAKEN:
            raise begun_before(key.decode(errors="replace"))
        return None if offset == KNOWN else Location(tp.partition, offset)

    async def lag(self, topic: str) -> int:
        store = self.store
        count = 0
        for partition in range(store.partitions(topic) or 0):
            tp = TP(topic, partition)
            end = store.end(tp)
            readers = self.plan.readers.get(topic, ())
            count += max((store.position(name, tp).unfinished(end) for name in readers), default=0)
        return count

    async def unread(self) -> list[Unread]:
        try:
            return unread(self.store, self.plan)
        except sqlite3.Error as exc:
            raise BrokerUnavailable(self.store.explain(exc)) from exc

    async def retire(self, before_s: float) -> int:
        gone: set[bytes] = set()
        try:
            count = await asyncio.to_thread(delete_finished, self.store, self.plan, before_s, gone)
        except sqlite3.Error as exc:
            raise BrokerUnavailable(self.store.explain(exc)) from exc
        self.store.drop_unpinned()
        # A job of that name is another one from here on.
        self._stages.cancelled -= gone
        return count

    @property
    def condition(self) -> Condition:
        url = self.settings.redact(self.settings.broker_url)
        trouble = self.store.trouble
        return Condition("broker", UP if trouble is None else DOWN, trouble or url)
