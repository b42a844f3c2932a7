"""The comparison: the same pipeline in hand-written Faust, as people write it.

One app, four agents with `concurrency`, `await topic.send(...)`. It records no call, so it buys
answers again after a crash, and on Faust's own consumer it loses events; here only its speed.
"""

import asyncio
import logging
import pathlib
import uuid
from typing import Any

import faust

from bench.calls import TEXT
from bench.field.chain import Chain
from bench.figures import Options, Result, peak_mb, percentile
from bench.projects import STAGES
from bench.worker import PAUSE_S, delete_topics


class Draft(faust.Record, serializer="json"):
    id: str
    trace_id: str
    text: str


class Handwritten(Chain):
    """The app; a run ends when it has passed the last agent."""

    def __init__(self, folder: pathlib.Path, options: Options) -> None:
        super().__init__(folder, options)
        self._kafka: str | None = options.get("kafka")
        tuned: dict[str, Any] = {}
        if self._kafka:
            # Faust's 16 KB a batch would hold it at 1,600 sends a second.
            tuned = {"broker_session_timeout": 10, "producer_max_batch_size": 262_144}
        self.app = faust.App(
            self.name,
            broker=f"kafka://{self._kafka}" if self._kafka else f"sqlite://{folder / 'faust.db'}",
            topic_partitions=options["partitions"],
            topic_disable_leader=True,
            datadir=str(folder / "faust"),
            web_enabled=False,
            **tuned,
        )
        self.topics = [
            # 'internal': Faust ignores a topic for ever that it does not find when it starts.
            self.app.topic(
                f"{self.name}-t{n}",
                value_type=Draft,
                internal=True,
                partitions=options["partitions"],
            )
            for n in range(STAGES)
        ]
        for number in range(STAGES):
            after = self.topics[number + 1] if number < STAGES - 1 else None
            self._add(number, after, options["agents"])

    def _add(self, number: int, after: Any, concurrency: int) -> None:
        async def run(stream: Any) -> None:
            async for draft in stream:
                text = await self.call()
                if after is None:
                    self.has_ended(draft.trace_id)
                    continue
                made = Draft(
                    id=str(uuid.uuid5(uuid.UUID(draft.id), f"s{number}")),
                    trace_id=draft.trace_id,
                    text=text,
                )
                await after.send(key=draft.trace_id, value=made)

        run.__name__ = run.__qualname__ = f"s{number}"
        self.app.agent(self.topics[number], name=f"s{number}", concurrency=concurrency)(run)

    async def start(self) -> None:
        await self.app.start()
        if self._kafka:
            # What comes before Faust has sought its place may be lost, and nobody would see it end.
            tables: Any = self.app.tables
            await tables.recovery.completed.wait()

    async def stop(self) -> None:
        await self.app.stop()
        if self._kafka:
            try:
                await delete_topics(self._kafka, [topic.get_topic_name() for topic in self.topics])
            except Exception as exc:
                logging.getLogger("bench").warning("the topics of %s stay: %s", self.name, exc)

    async def begin(self, id_: str) -> None:
        value = Draft(id=id_, trace_id=id_, text=TEXT).dumps()
        topic = self.topics[0].get_topic_name()
        # Not awaited until it is acknowledged: the feeder is not what is measured.
        await self.app.producer.send(topic, id_.encode(), value, None, None, None)


async def handwritten(folder: pathlib.Path, options: Options) -> Result:
    """Hand-written Faust that is never short of work."""
    async with Handwritten(folder, options) as made:
        await made.feed(options["warm"])
        result = await made.saturate(options["runs"])
        alone = []
        for _ in range(options["idle_runs"]):
            alone.append(await made.one())
            await asyncio.sleep(PAUSE_S)
    result["p50_ms"] = percentile(alone, 50) * 1e3
    result["p99_ms"] = percentile(alone, 99) * 1e3
    return result | {"peak_mb": peak_mb()}
