"""Handover: what happens to journal and stages when partitions are assigned and revoked."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from aiokafka.errors import IllegalStateError
from faust.types import TP

from penstock.broker.contract import Stages
from penstock.broker.kafka.clients import ShutdownBudget
from penstock.broker.kafka.journal import KafkaJournal, Member
from penstock.signals import (
    EventsGone,
    EventsLost,
    PartitionsLost,
    ProgressNotTaken,
    Signal,
    Signals,
    SuspectsFound,
    WorkerSuspended,
)

#: What the problems are about that are found while a partition is taken over.
JOURNAL, CANCELS = "journal", "cancels"


class Seeking(Member, Protocol):
    """A consumer that can commit, and seek back to the group's commits."""

    async def is_member(self) -> bool: ...

    async def commit(self) -> Any: ...

    async def perform_seek(self) -> None: ...

    def resume_flow(self) -> None: ...


class Handover:
    """Moves the journal and the stages of one worker from one assignment to the next."""

    def __init__(
        self,
        journal: KafkaJournal,
        stages: Stages,
        member: Callable[[], Seeking],
        signals: Signals,
    ) -> None:
        self._signals = signals
        self.problems = journal.problems
        self.journal = journal
        self.stages = stages
        self._member = member
        #: A look at the topics may come while partitions are taken over.
        self._loading = asyncio.Lock()
        #: True from the time when partitions are given up until they are assigned again.
        self._giving_up = False
        #: What was said of the chains' changes: each partition is new here once.
        self._edited: set[Signal] = set()
        #: What was last said of suspects.
        self._said: SuspectsFound | None = None

    async def give_up(self, limit_s: float | None, budget: ShutdownBudget) -> None:
        """Take no new events, wait up to `limit_s` for those in flight, then write and commit what
        has ended. Without a limit the stages drain, for good. What Kafka does not take in the time
        that `budget` has left is delivered again, and known or done again."""
        self._giving_up = True
        self.stages.hold()
        if limit_s is None:
            await self.stages.drain()
        else:
            await self.stages.pause(limit_s)
        if not await budget.wait(self._write_all()):
            self._signals.emit(ProgressNotTaken())

    async def _write_all(self) -> None:
        await self.journal.give_up()
        await self._member().commit()

    async def assigned(self) -> None:
        """Cancel what is in flight of partitions that other workers have now."""
        self._giving_up = False
        member = self._member()
        kept = set() if member.missed_generation else member.assignment()
        if lost := await self.stages.release(kept):
            self._signals.emit(PartitionsLost(lost))

    async def load(self) -> None:
        """Read the journal and the cancelled runs of the partitions into memory. Raises
        `KafkaError`."""
        async with self._loading:
            await self._load()

    async def _load(self) -> None:
        journal = self.journal
        for signal in await journal.load():
            if signal not in self._edited:
                self._edited.add(signal)
                self._signals.emit(signal)
        self._note(
            JOURNAL,
            journal.unreadable,
            "Nothing of the partition is worked on, since what is finished or paid for may stand"
            " there. It is read again at the next start; another replica may be whole",
        )
        partitions = {tp.partition for tp in self._member().assignment()}
        unreadable = await journal.log.read(
            journal.plan.cancels, partitions, lambda _, key, __: self.stages.cancelled.add(key)
        )
        self._note(CANCELS, unreadable, "A run that it cancels goes on; cancel it again")

    def _note(self, about: str, unreadable: Mapping[int, str], then: str) -> None:
        if unreadable:
            self.problems.note(about, f"{'; '.join(unreadable.values())}. {then}")
        else:
            self.problems.over(about)

    def on_lost(self, tp: TP, start: int, end: int) -> None:
        """Say that the records from `start` to before `end` are gone, unless all were finished."""
        if count := self.journal.lost(tp, start, end):
            self._signals.emit(EventsLost(*tp, start, end, count))

    def on_seek(self) -> None:
        """Begin again at the group's commits, where the consumer delivers from now on."""
        self.stages.on_seek()
        self.journal.on_seek()
        suspects = self.journal.suspects.search.found()
        if suspects is not None and suspects != self._said:
            self._signals.emit(suspects)
        self._said = suspects
        if not self._giving_up:  # else that was the seek of the rebalance before
            self.stages.resume()

    async def begin_again(self) -> None:
        """Cancel everything in flight after a suspension, and deliver again what is still ours:
        other workers may have the rest by now."""
        self._signals.emit(WorkerSuspended())
        self.stages.hold()
        await self.stages.release(())
        await self._deliver_again()

    async def begin_anew(self, topics: set[str]) -> None:
        """Cut off what is in flight of `topics`, which were deleted and made anew, and read them
        from their beginnings. Raises `KafkaError`; then nothing is taken until this is called
        again."""
        self.stages.hold()
        kept = {tp for tp in self._member().assignment() if tp.topic not in topics}
        if lost := await self.stages.release(kept):
            self._signals.emit(EventsGone(lost, tuple(sorted(topics))))
        await self.load()
        await self._deliver_again()

    async def _deliver_again(self) -> None:
        member = self._member()
        # Else a rebalance comes, and with it another seek.
        with contextlib.suppress(IllegalStateError):
            if await member.is_member() and not self._giving_up:
                await member.perform_seek()
                member.resume_flow()
