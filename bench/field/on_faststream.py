"""FastStream on Kafka: four subscribers in a row, each publishing to the next one's topic.

`NACK_ON_ERROR`: the offset of every message is committed when its answer has been published and
acknowledged; before that a crash repeats the call, and no call is recorded. FastStream then handles
one message of a partition at a time, so `max_workers` beyond the partitions would change nothing.
Only `ACK_FIRST` does more at once: it commits before the call, and loses what a crash interrupts.
"""

import pathlib
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaResponse
from pydantic import BaseModel

from bench.calls import TEXT
from bench.field.chain import Chain
from bench.figures import Options
from bench.projects import STAGES


class Draft(BaseModel):
    trace_id: str
    text: str


class FastStream(Chain):
    def __init__(self, folder: pathlib.Path, options: Options) -> None:
        super().__init__(folder, options)
        self._kafka = options["kafka"]
        self._partitions = options["partitions"]
        # As the hand-written Faust has it: 16 KB a batch would hold the producer up.
        self._broker = KafkaBroker(self._kafka, max_batch_size=262_144, logger=None)
        self._topics = [f"{self.name}-t{number}" for number in range(STAGES)]
        for number in range(STAGES):
            self._add(number)

    def _add(self, number: int) -> None:
        async def stage(draft: Draft) -> Any:
            made = Draft(trace_id=draft.trace_id, text=await self.call())
            if number == STAGES - 1:
                self.has_ended(draft.trace_id)
                return None
            return KafkaResponse(made, key=draft.trace_id.encode())

        if number < STAGES - 1:
            stage = self._broker.publisher(self._topics[number + 1])(stage)
        self._broker.subscriber(
            self._topics[number],
            group_id=f"{self.name}-s{number}",
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.NACK_ON_ERROR,
            max_workers=self._partitions,
        )(stage)

    async def start(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._kafka)
        await admin.start()
        there = set(await admin.list_topics())
        new = [NewTopic(t, self._partitions, 1) for t in self._topics if t not in there]
        if new:
            await admin.create_topics(new)
        await admin.close()
        await self._broker.start()

    async def stop(self) -> None:
        await self._broker.stop()
        admin = AIOKafkaAdminClient(bootstrap_servers=self._kafka)
        await admin.start()
        await admin.delete_topics(self._topics)
        await admin.close()

    async def begin(self, id_: str) -> None:
        # Not awaited until it is acknowledged: the feeder is not what is measured.
        await self._broker.publish(
            Draft(trace_id=id_, text=TEXT), self._topics[0], key=id_.encode(), no_confirm=True
        )
