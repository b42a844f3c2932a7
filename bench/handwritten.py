"""The comparison: the same pipeline in hand-written Faust, as people write it.

One app, four agents with `concurrency`, `await topic.send(...)`. It records no call, so it buys
answers again after a crash, and on Faust's own consumer it loses events; here only its speed.
"""

import asyncio
import logging
import pathlib
import time
import uuid
from typing import Any

import faust

from bench.figures import Options, Result, peak_mb, percentile
from bench.projects import STAGES
from bench.worker import AHEAD, FEED, PAUSE_S, delete_topics

TEXT = "x" * 2000


class Draft(faust.Record, serializer="json"):
    id: str
    trace_id: str
    text: str


async def call(text: str) -> str:
    return TEXT


class Handwritten:
    """The app, and how many runs have passed its last agent."""

    def __init__(self, folder: pathlib.Path, options: Options) -> None:
        kafka: str | None = options.get("kafka")
        self.name = f"bench-{uuid.uuid4().hex[:8]}"
        tuned: dict[str, Any] = {}
        if kafka:
            # Faust's 16 KB a batch would hold it at 1,600 sends a second.
            tuned = {"broker_session_timeout": 10, "producer_max_batch_size": 262_144}
        self.app = faust.App(
            self.name,
            broker=f"kafka://{kafka}" if kafka else f"sqlite://{folder / 'faust.db'}",
            topic_partitions=options["partitions"],
            topic_disable_leader=True,
            datadir=str(folder / "faust"),
            web_enabled=False,
            **tuned,
        )
        self.begun = self.ended = 0
        self._target = 0
        self._reached = asyncio.Event()
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
                text = await call(draft.text)
                if after is None:
                    self.ended += 1
                    if self.ended == self._target:
                        self._reached.set()
                    continue
                made = Draft(
                    id=str(uuid.uuid5(uuid.UUID(draft.id), f"s{number}")),
                    trace_id=draft.trace_id,
                    text=text,
                )
                await after.send(key=draft.trace_id, value=made)

        run.__name__ = run.__qualname__ = f"s{number}"
        self.app.agent(self.topics[number], name=f"s{number}", concurrency=concurrency)(run)

    async def feed(self, count: int) -> None:
        """`count` runs have passed the last agent; the first topic was never empty until then."""
        self._target, left = self.ended + count, count
        self._reached.clear()
        topic = self.topics[0].get_topic_name()
        while left:
            if self.begun - self.ended >= AHEAD:
                await asyncio.sleep(0.002)
                continue
            for _ in range(min(FEED, left)):
                id_ = str(uuid.uuid4())
                value = Draft(id=id_, trace_id=id_, text=TEXT).dumps()
                # Not awaited until it is acknowledged: the feeder is not what is measured.
                await self.app.producer.send(topic, id_.encode(), value, None, None, None)
                left -= 1
                self.begun += 1
            await asyncio.sleep(0)
        await self._reached.wait()

    async def saturate(self, count: int) -> Result:
        started, cpu = time.perf_counter(), time.process_time()
        await self.feed(count)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        steps = count * STAGES
        return {"steps_per_s": steps / seconds, "cpu_s_per_1000": cpu / steps * 1000}

    async def one(self) -> float:
        """One run from its first send to its last agent, in seconds."""
        self._target, started = self.ended + 1, time.perf_counter()
        self._reached.clear()
        id_ = str(uuid.uuid4())
        value = Draft(id=id_, trace_id=id_, text=TEXT).dumps()
        topic = self.topics[0].get_topic_name()
        await self.app.producer.send_and_wait(topic, id_.encode(), value, None, None, None)
        self.begun += 1
        await self._reached.wait()
        return time.perf_counter() - started


async def handwritten(folder: pathlib.Path, options: Options) -> Result:
    """Hand-written Faust that is never short of work."""
    made = Handwritten(folder, options)
    await made.app.start()
    try:
        await made.feed(options["warm"])
        result = await made.saturate(options["runs"])
        alone = []
        for _ in range(options["idle_runs"]):
            alone.append(await made.one())
            await asyncio.sleep(PAUSE_S)
        result["p50_ms"] = percentile(alone, 50) * 1e3
    finally:
        await made.app.stop()
        if options.get("kafka"):
            try:
                names = [topic.get_topic_name() for topic in made.topics]
                await delete_topics(options["kafka"], names)
            except Exception as exc:
                logging.getLogger("bench").warning("the topics of %s stay: %s", made.name, exc)
    return result | {"peak_mb": peak_mb()}
