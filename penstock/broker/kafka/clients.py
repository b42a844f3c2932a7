"""Faust's clients of Kafka, changed in two ways: they say why the group refuses a worker, and they
stop while Kafka is away, where aiokafka's would wait for ever to send what is buffered."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping
from typing import Any

from aiokafka.errors import IllegalStateError, KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

log = logging.getLogger(__name__)

#: Seconds that a worker which stops waits for Kafka, all in all.
SHUTDOWN_S = 10.0


class ShutdownBudget:
    """The time that a stopping worker gives Kafka in all. It begins with the first wait."""

    def __init__(self, limit_s: float = SHUTDOWN_S) -> None:
        self._limit_s = limit_s
        self._until: float | None = None

    async def wait(self, work: Awaitable[Any]) -> bool:
        """Wait for `work` while there is time left, then cancel it. Returns whether it was done."""
        now = time.monotonic()
        self._until = self._until or now + self._limit_s
        task = asyncio.ensure_future(work)
        try:
            # It always gets a moment: some of it only lets go of what there is.
            await asyncio.wait({task}, timeout=max(0.1, self._until - now))
        finally:
            task.cancel()  # without waiting for that: it may be what does not end
        # aiokafka's consumer cancels its own fetches as it stops, and is cancelled by them.
        if not task.done() or task.cancelled():
            return False
        try:
            task.result()
        except KafkaError as exc:
            log.debug("Kafka is not there for a stopping worker: %s", exc)
            return False
        return True


def shutdown_of(client: Any) -> ShutdownBudget:
    """Return the budget that all clients of an app share."""
    budget: ShutdownBudget = client.transport.shutdown
    return budget


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread of a consumer that is a member of the group."""

    async def seek_to_committed(self) -> Mapping[TP, int]:
        committed: Mapping[TP, int] = await self.call_thread(self._seek_to_committed)
        return committed

    async def _seek_to_committed(self) -> Any:
        consumer = self._ensure_consumer()
        if not consumer.assignment():
            # aiokafka asserts that there is one; for this, Faust waits for the next.
            raise IllegalStateError("No partitions are assigned")
        return await consumer.seek_to_committed()

    async def refusal(self) -> KafkaError | None:
        """Return why the group has refused this member since the last call, if it has. aiokafka
        raises that only from calls that Faust never makes, and asks the group again only after."""
        found: KafkaError | None = await self.call_thread(self._refusal)
        return found

    async def _refusal(self) -> KafkaError | None:
        consumer: Any = self._consumer
        if consumer is None or consumer._coordinator is None:
            return None  # not started
        try:
            consumer._coordinator.check_errors()
        except KafkaError as exc:
            return exc
        return None

    async def see(self, topics: Mapping[str, int]) -> None:
        """See that `topics` have these numbers of partitions, so that the group shares them out.
        aiokafka asks again only after minutes."""
        await self.call_thread(self._see, topics)

    async def _see(self, topics: Mapping[str, int]) -> None:
        consumer: Any = self._consumer
        if consumer is None:
            return  # not started
        client = consumer._client
        known = {name: len(client.cluster.partitions_for_topic(name) or ()) for name in topics}
        if known != topics:
            await client.force_metadata_update()

    def _stopped_set(self) -> None:
        if not self.thread_loop.is_closed():  # as it is when the worker ends by an error
            super()._stopped_set()

    async def on_thread_stop(self) -> None:
        if not await shutdown_of(self).wait(super().on_thread_stop()):
            log.debug("the consumer ends without Kafka")


class Producer(driver.Producer):
    """A producer that stops while Kafka is away."""

    async def on_stop(self) -> None:
        producer: Any = self._producer
        if not await shutdown_of(self).wait(super().on_stop()) and producer is not None:
            log.debug("the producer ends without Kafka")
            # Its sender would go on asking.
            producer._sender.sender_task.cancel()
            await producer.client.close()
