"""Handover: what happens to journal and stages when partitions are assigned and revoked."""

import contextlib
from collections.abc import Callable
from typing import Any, Protocol

from aiokafka.errors import IllegalStateError

from penstock.broker.contract import Stages
from penstock.broker.kafka.clients import ShutdownBudget
from penstock.broker.kafka.journal import KafkaJournal, Member
from penstock.signals import (
    PartitionsLost,
    ProgressNotTaken,
    Signal,
    Signals,
    SuspectsFound,
    WorkerSuspended,
)


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
        self.journal = journal
        self.stages = stages
        self._member = member
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
        journal = self.journal
        for signal in await journal.load():
            if signal not in self._edited:
                self._edited.add(signal)
                self._signals.emit(signal)
        partitions = {tp.partition for tp in self._member().assignment()}
        await journal.log.read(
            journal.plan.cancels, partitions, lambda _, key, __: self.stages.cancelled.add(key)
        )

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
        member = self._member()
        # Else a rebalance comes, and with it another seek.
        with contextlib.suppress(IllegalStateError):
            if await member.is_member() and not self._giving_up:
                await member.perform_seek()
                member.resume_flow()
