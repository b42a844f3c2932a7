"""What is measured of Penstock: a real worker in this process, on a file of its own."""

import asyncio
import ctypes
import itertools
import pathlib
import random
import sys
import time
import uuid
from collections.abc import Iterable
from typing import Any

from faust.types import TP

from bench.figures import Options, Result, peak_mb, percentile
from bench.projects import PARTS, PIPELINE, STAGES, write_project
from penstock.broker.embedded.transport import LOOK_S
from penstock.broker.kafka.records import journal_of
from penstock.client import Client
from penstock.record import events
from penstock.settings import Settings
from penstock.signals import StepFinished
from penstock.worker.build import build

#: Runs that have begun and not ended, at most, while a worker is kept busy: all stages have work,
#: and the memory stays that of a busy worker rather than that of the feeder's own queue.
AHEAD = 2000
#: Runs appended at once.
FEED = 100
#: Seconds between two idle runs.
PAUSE_S = 0.01

#: Key and value.
Record = tuple[bytes, bytes]


def settings_of(folder: pathlib.Path, options: Options) -> Settings:
    """The product's defaults, but for the places and what the case is about."""
    kafka = options.get("kafka")
    return Settings(
        broker=f"kafka://{kafka}" if kafka else "",
        app_id=f"bench-{folder.name}" if kafka else "penstock",
        project=folder / "project",
        data=folder / "data",
        logs=folder / "logs",
        seed="0",
        event_log=options.get("log", True),
        partitions=options.get("partitions", 4),
        concurrency=options.get("concurrency", 200),
    )


class Worker:
    """A started worker that counts the runs which have ended durably."""

    def __init__(self, folder: pathlib.Path, options: Options) -> None:
        project = folder / "project"
        if not project.exists():
            write_project(project, options["does"])
        self.settings = settings_of(folder, options)
        self.app = build(self.settings)
        self.begun = self.ended = self.commits = 0
        self._last = f"s{STAGES - 1}"
        self._target = 0
        self._reached = asyncio.Event()
        self._waited: dict[str, asyncio.Future[float]] = {}
        self.app.signals.on(StepFinished, self._count)

    async def __aenter__(self) -> "Worker":
        self.app.prepare()
        if self.settings.embedded:
            self._count_commits()
        await self.app.start()
        if not self.settings.embedded:
            tables: Any = self.app.tables
            await tables.recovery.completed.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.app.stop()
        if not self.settings.embedded:
            # They outlive the folder, and the next measure has topics of the same names.
            names = [*self.app.plan.topics, journal_of(self.settings.app_id)]
            await delete_topics(self.settings.broker.removeprefix("kafka://"), names)

    def _count(self, finished: StepFinished) -> None:
        if finished.stage == self._last:
            self.ended += 1
            if self._waited:
                waiting = self._waited.pop(finished.event.trace_id, None)
                if waiting is not None:
                    waiting.set_result(time.perf_counter())
            if self.ended == self._target:
                self._reached.set()

    def _count_commits(self) -> None:
        writer = self.store.writer
        write = writer.write

        def counted(batch: Any) -> None:
            self.commits += 1
            write(batch)

        writer.__dict__["write"] = counted

    @property
    def store(self) -> Any:
        transport: Any = self.app.transport
        return transport.store

    # -- runs

    async def one(self) -> float:
        """One run from submission to its durable end, in seconds."""
        event = events.first_event(PIPELINE, PARTS)
        ended = self._wait_for(event.trace_id)
        started = time.perf_counter()
        await self.app.begin(self.app.project.chain(PIPELINE), event)
        self.begun += 1
        return await ended - started

    def _wait_for(self, trace_id: str) -> asyncio.Future[float]:
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waited[trace_id] = future
        return future

    async def feed(self, count: int) -> None:
        """`count` runs have ended, and the worker was never short of work until the last ones."""
        await self._feed(self._make() for _ in range(count))

    async def _feed(self, records: Iterable[Record]) -> None:
        left = iter(records)
        while chunk := list(itertools.islice(left, FEED)):
            while self.begun - self.ended >= AHEAD:
                await asyncio.sleep(0.002)
            await self._append(chunk)
            await asyncio.sleep(0)
        await self.all_ended()

    async def all_ended(self) -> None:
        """Every run that has begun has ended."""
        self._target = self.begun
        if self.ended < self._target:
            self._reached.clear()
            await self._reached.wait()

    def _make(self) -> Record:
        event = events.first_event(PIPELINE, PARTS)
        return event.key, events.dump(event)

    async def _append(self, records: list[Record]) -> None:
        self.begun += len(records)
        if not self.settings.embedded:
            for key, value in records:
                # Not awaited until it is acknowledged: the feeder is not what is measured.
                await self.app.producer.send("t0", key, value, None, None, None)
            return
        store, now = self.store, int(time.time() * 1000)
        for key, value in records:
            store.append(TP("t0", store.partition_of("t0", key)), now, key, value)

    async def saturate(self, count: int) -> Result:
        """Steps a second, and CPU seconds (all threads, the loop's) for 1,000 steps, over
        `count` runs."""
        # Made before the clock starts: whoever submits is not what is measured.
        records = [self._make() for _ in range(count)]
        commits = self.commits
        started, cpu, loop = time.perf_counter(), time.process_time(), time.thread_time()
        await self._feed(records)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        loop = time.thread_time() - loop
        steps = count * STAGES
        return {
            "steps_per_s": steps / seconds,
            "cpu_s_per_1000": cpu / steps * 1000,
            "loop_cpu_s_per_1000": loop / steps * 1000,
            "records_per_commit": steps / max(1, self.commits - commits),
        }


# -- the kinds of measure: each takes its folder and its options, and gives figures by name


async def steps(folder: pathlib.Path, options: Options) -> Result:
    """A worker that is never short of work."""
    async with Worker(folder, options) as worker:
        await worker.feed(options["warm"])
        result = await worker.saturate(options["runs"])
    return result | {"peak_mb": peak_mb()}


async def idle(folder: pathlib.Path, options: Options) -> Result:
    """One run at a time, from inside the worker and from a client beside it."""
    async with Worker(folder, options) as worker:
        await worker.feed(options["warm"])
        inside = []
        for _ in range(options["runs"]):
            inside.append(await worker.one())
            await asyncio.sleep(PAUSE_S)
        if not worker.settings.embedded:
            return {"p50_ms": percentile(inside, 50) * 1e3, "p99_ms": percentile(inside, 99) * 1e3}
        beside = []
        async with Client(worker.settings, worker.app.project) as client:
            for _ in range(options["runs"] // 2):
                trace_id = str(uuid.uuid4())
                ended = worker._wait_for(trace_id)
                started = time.perf_counter()
                await client.submit(PIPELINE, PARTS, trace_id)
                worker.begun += 1
                beside.append(await ended - started)
                # Not in step with the worker's looks, which would be lucky or unlucky each time.
                await asyncio.sleep(PAUSE_S + LOOK_S * random.random())
    return {
        "p50_ms": percentile(inside, 50) * 1e3,
        "p99_ms": percentile(inside, 99) * 1e3,
        "client_p50_ms": percentile(beside, 50) * 1e3,
    }


async def many(folder: pathlib.Path, options: Options) -> Result:
    """Runs that all begin at once, from the first submission to the last durable end."""
    async with Worker(folder, options) as worker:
        await worker.one()
        started = time.perf_counter()
        await asyncio.gather(*(worker.one() for _ in range(options["runs"])))
        return {"wall_s": time.perf_counter() - started}


async def submit_ahead(folder: pathlib.Path, options: Options) -> Result:
    """Runs wait in the file for a worker; submitted by a process that is not it."""
    write_project(folder / "project", options["does"])
    async with Client(settings_of(folder, options)) as client:
        for _ in range(options["runs"] // FEED):
            await client.submit_many(PIPELINE, [(PARTS, None)] * FEED)
    return {}


async def in_flight(folder: pathlib.Path, options: Options) -> Result:
    """Memory while every run waits in a call, and after all of them went through."""
    runs = options["runs"]
    async with Worker(folder, options) as worker:
        # The project's steps, as the product has loaded them.
        gate = sys.modules["penstock_steps.work"].gate
        worker.begun = runs
        await gate.has_waiting(runs)
        await asyncio.sleep(0.5)
        waiting = peak_mb()
        gate.opened.set()
        await worker.all_ended()
    return {"waiting_mb": waiting, "peak_mb": peak_mb()}


async def history(folder: pathlib.Path, options: Options) -> Result:
    """The cost of a step after so many finished runs, in one process."""
    result: Result = {}
    async with Worker(folder, options) as worker:
        for index, point in enumerate(options["points"]):
            if point > worker.ended:
                await worker.feed(point - worker.ended)
            sample = await worker.saturate(options["window"])
            result |= {f"{name}_{index}": value for name, value in sample.items()}
    return result


async def restart(folder: pathlib.Path, options: Options) -> Result:
    """The same cost in a new process on the same file, and how soon it is at work."""
    started = time.perf_counter()
    async with Worker(folder, options) as worker:
        await worker.one()
        ready_s = time.perf_counter() - started
        await worker.feed(options["warm"])
        result = await worker.saturate(options["window"])
    return {f"{name}_again": value for name, value in result.items()} | {"ready_s": ready_s}


async def slow_disk(folder: pathlib.Path, options: Options) -> Result:
    """Throughput and one idle run where each sync of a file takes longer."""
    syncs = ctypes.CDLL(None).bench_syncs
    async with Worker(folder, options) as worker:
        await worker.feed(options["warm"])
        before = syncs()
        result = await worker.saturate(options["runs"])
        result["syncs_per_1000"] = (syncs() - before) / (options["runs"] * STAGES) * 1000
        alone = []
        for _ in range(options["idle_runs"]):
            alone.append(await worker.one())
            await asyncio.sleep(PAUSE_S)
    return result | {"p50_ms": percentile(alone, 50) * 1e3}


async def delete_topics(kafka: str, names: list[str]) -> None:
    """`names` are gone from the Kafka at HOST:PORT."""
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.delete_topics(names)
    finally:
        await admin.close()
