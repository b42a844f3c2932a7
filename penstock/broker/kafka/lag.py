"""Lag on Kafka: how many events of a topic are not finished, in the whole group."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from faust.types import TP

from penstock.broker.contract import Unread
from penstock.broker.kafka.standing import standing
from penstock.errors import BrokerUnavailable

if TYPE_CHECKING:
    from penstock.broker.kafka.journal import KafkaJournal


def unfinished(
    journal: "KafkaJournal",
    stages: tuple[str, ...],
    ends: Mapping[TP, int],
    commits: Mapping[TP, int],
    firsts: Mapping[TP, int],
) -> int:
    """Return how many events below `ends` are not finished by all of `stages`. The journal says so
    for this worker's partitions, the group's commits for others; where nothing was ever committed
    (-1) all from the first record on count."""
    lag = 0
    for tp, end in ends.items():
        behind = end - (commits[tp] if commits[tp] >= 0 else firsts[tp])
        known = [journal.unfinished(name, TP(*tp), end, behind) for name in stages]
        lag += max(known, default=behind)
    return lag


class Lag:
    """Asks Kafka for the ends and the group's commits. For other workers' partitions the result may
    be as old as their last commit."""

    def __init__(self, journal: "KafkaJournal", group: str, connection: dict[str, Any]) -> None:
        self.journal = journal
        self.group = group
        self._connection = connection
        self._admin: Any = None
        self._consumer: Any = None
        # Several governors ask.
        self._one_at_a_time = asyncio.Lock()

    async def of(self, topic: str, stages: tuple[str, ...]) -> int:
        """Return the lag of `topic`, which `stages` read. Raises `BrokerUnavailable`."""
        async with self._one_at_a_time:
            return await self._ask(topic, stages)

    async def _ask(self, topic: str, stages: tuple[str, ...]) -> int:
        try:
            await self._start()
            found = await standing(self._admin, [topic])
            if topic not in found:
                raise BrokerUnavailable(f"the topic '{topic}' is not on Kafka")
            tps = [TopicPartition(topic, one) for one in range(found[topic].partitions)]
            ends, firsts, commits = await self._ask_for(tps)
        except (KafkaError, OSError) as exc:
            await self.close()
            raise _unavailable(exc) from exc
        return unfinished(self.journal, stages, ends, commits, firsts)

    async def unread(self) -> list[Unread]:
        """Return what waits in this worker's partitions on topics that no stage reads any more.
        Raises `BrokerUnavailable`."""
        gone = list(self.journal.gone())
        if not gone:
            return []
        async with self._one_at_a_time:
            try:
                await self._start()
                there = await standing(self._admin, {tp.topic for tp, *_ in gone})
                tps = [TopicPartition(*tp) for tp in {tp for tp, *_ in gone} if tp.topic in there]
                ends, firsts, commits = await self._ask_for(tps)
            except (KafkaError, OSError) as exc:
                await self.close()
                raise _unavailable(exc) from exc
        counts: dict[str, dict[str, int]] = {}
        for tp, stage, stretches in gone:
            if tp not in ends:
                continue
            if commits[tp] > 0 and not any(one.is_done(commits[tp] - 1) for one in stretches):
                # Kafka forgets a group's commits of topics that no member reads.
                self.journal.finish_below(stage, tp, commits[tp])
            count = sum(
                not any(one.is_done(offset) for one in stretches)
                for offset in range(max(firsts[tp], commits[tp]), ends[tp])
            )
            if count:
                by_stage = counts.setdefault(tp.topic, {})
                by_stage[stage] = by_stage.get(stage, 0) + count
        return [
            Unread(topic, tuple(sorted(by_stage)), max(by_stage.values()))
            for topic, by_stage in sorted(counts.items())
        ]

    async def _ask_for(
        self, tps: Sequence[TopicPartition]
    ) -> tuple[dict[TP, int], dict[TP, int], dict[TP, int]]:
        """Return the ends, the first offsets and the group's commits (-1: none) of `tps`."""
        if not tps:
            return {}, {}, {}
        ends = await self._consumer.end_offsets(tps)
        found = await self._admin.list_consumer_group_offsets(self.group, partitions=tps)
        firsts = await self._consumer.beginning_offsets(tps)
        commits = {tp: found[tp].offset if tp in found else -1 for tp in tps}
        return ends, firsts, commits

    async def _start(self) -> None:
        if self._admin is not None:
            return
        admin = AIOKafkaAdminClient(**self._connection)
        consumer = AIOKafkaConsumer(**self._connection, enable_auto_commit=False)
        try:
            await admin.start()
            await consumer.start()
        except KafkaError:
            await _close(admin, consumer)
            raise
        self._admin, self._consumer = admin, consumer

    async def close(self) -> None:
        admin, consumer, self._admin, self._consumer = self._admin, self._consumer, None, None
        if admin is not None:
            await _close(admin, consumer)


def _unavailable(exc: Exception) -> BrokerUnavailable:
    return BrokerUnavailable(f"Kafka does not say how far its topics are: {exc}")


async def _close(admin: Any, consumer: Any) -> None:
    with contextlib.suppress(KafkaError, OSError):
        await admin.close()
    with contextlib.suppress(KafkaError, OSError):
        await consumer.stop()
