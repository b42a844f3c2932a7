"""The client: begin runs, follow them and read them, from any process.

from penstock.client import Client

Client().push_job("tidy", {"system_prompt": ..., "params": {...}})  # in any program

async with Client() as client:
    trace_id = await client.submit("story", {"premise": "A shy volcano"})
    async for entry in client.follow(trace_id):
        print(entry.topic, entry.event.agent)
"""

import asyncio
import logging
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.broker.embedded.reading import ONE_WORKER, EmbeddedReader, Found, Reader
from penstock.broker.embedded.store import Store
from penstock.broker.tp import TP
from penstock.errors import ChainError, JobRefused, MalformedEvent, NotFound, SettingsError
from penstock.jobs.status import JobStatus, PushedJob, pushes_of, status_of
from penstock.project.project import Project, read_project
from penstock.record import cancels, events
from penstock.record import dead_letters as deadletters
from penstock.record.beginnings import encode, log_begun
from penstock.record.dead_letters import DeadLetter
from penstock.record.event_log import EventLog
from penstock.record.events import Event, as_text, derive_id, first_event
from penstock.record.jobs import (
    LOW,
    PIPELINE,
    TOPICS,
    check_job_name,
    check_priority,
    job_event,
    read_job,
    trace_id_of,
)
from penstock.runs.runs import DONE, RUNNING, Entry, Run, Runs
from penstock.settings import Settings

if TYPE_CHECKING:
    from penstock.broker.kafka.reading import KafkaReader

log = logging.getLogger(__name__)

#: Seconds between looks at a run that somebody follows.
LOOK_S = 0.05


class Client:
    """The pipelines of a project, from outside their worker. Raises `PenstockError`s."""

    def __init__(self, settings: Settings | None = None, project: Project | None = None) -> None:
        self.settings = settings or Settings.read()
        self.project = project or read_project(self.settings.root)
        self.reader: Reader
        self._kafka: KafkaReader | None = None
        if self.settings.embedded:
            self.store = Store(self.settings.database)
            self.reader = EmbeddedReader(self.store)
        else:
            self.reader = self._kafka = _kafka_reader(self.settings, self.project)
        self.runs = Runs(self.settings, self.project, self.reader)
        self._appending = threading.Lock()

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.reader.close()

    def worker_running(self) -> bool:
        """Whether a worker is there to do the work."""
        return self.reader.worker_running()

    async def submit(
        self, pipeline: str, parts: dict[str, Any], trace_id: str | None = None
    ) -> str:
        """The run has begun, durably; its trace id. A `trace_id` that was submitted before is not
        begun again. Raises `ChainError`, `EventTooLarge` or `BrokerUnavailable`."""
        (first,) = await self.submit_many(pipeline, [(parts, trace_id)])
        return first

    async def submit_many(
        self, pipeline: str, runs: list[tuple[dict[str, Any], str | None]]
    ) -> list[str]:
        """All of the runs have begun, or none of them; their trace ids, in order."""
        self.project.require_sound()
        rows = [self.check(pipeline, parts, trace_id) for parts, trace_id in runs]
        chain = self.project.chain(pipeline)
        by_entry: dict[str, list[tuple[Event, bytes]]] = {}
        for row in rows:
            by_entry.setdefault(chain.entry_of(row[0].parts), []).append(row)
        await asyncio.to_thread(self._append, by_entry)
        return [event.trace_id for event, _ in rows]

    def check(
        self, pipeline: str, parts: dict[str, Any], trace_id: str | None = None
    ) -> tuple[Event, bytes]:
        """The first event of such a run, and its record; nothing is begun. Raises what `submit`
        would."""
        chain = self.project.chain(pipeline)
        if trace_id is not None:
            trace_id = _checked(trace_id)
        event = first_event(chain.name, chain.read_parts(parts), trace_id)
        return event, encode(event, self.settings)

    def _append(self, by_topic: dict[str, list[tuple[Event, bytes]]]) -> int:
        """The runs have begun, each once; how many had not before, as far as the broker can say."""
        begun: list[tuple[str, Event, int, int]] = []
        if self._kafka is not None:
            for topic, rows in by_topic.items():
                places = self._kafka.append(topic, [(event.key, raw) for event, raw in rows])
                pairs = zip(rows, places, strict=True)
                begun += [(topic, event, *place) for (event, _), place in pairs]
        else:
            with self._appending:
                for topic, rows in by_topic.items():
                    self.store.create(topic, self._partitions(topic))
                    for event, raw in rows:
                        tp = TP(topic, self.store.partition_of(topic, event.key))

                        def durable(offset: int | None, event: Event = event, tp: TP = tp) -> None:
                            if offset is not None:
                                begun.append((tp.topic, event, tp.partition, offset))

                        self.store.submit(event.id, tp, event.key, raw, durable)
                self.store.commit_now()
        if begun and self.settings.event_log:
            self._log(begun)
        return len(begun)

    def _log(self, begun: list[tuple[str, Event, int, int]]) -> None:
        """Beside the worker's lines. Never rotated from here: the worker would go on in the file
        that it has open."""
        settings = self.settings
        event_log = EventLog(settings.logs, max_bytes=sys.maxsize, files=0, redact=settings.redact)
        try:
            event_log.start()
        except SettingsError as exc:
            log.warning("%s", exc)  # the runs have begun
            return
        for topic, event, partition, offset in begun:
            log_begun(event_log, topic, event, partition, offset)
        event_log.stop()

    def _partitions(self, topic: str) -> int:
        """As many as the pipeline's other topics have, when there are any yet."""
        chain = next(c for c in self.project.chains.values() if topic in c.topics)
        there = (self.store.partitions(name) for name in chain.topics)
        return next((count for count in there if count), self.settings.partitions)

    async def rerun(self, trace_id: str, topic: str) -> str:
        """A new run that goes on from the old one's event on `topic`; its trace id.

        It has a trace of its own, `forked_from` the old one, and pays for what it does anew.
        Raises `NotFound` when the old run has no event there.
        """
        self.project.require_sound()
        run = await self.read(trace_id)
        entry = next((entry for entry in run.entries if entry.topic == topic), None)
        if entry is None:
            there = ", ".join(dict.fromkeys(entry.topic for entry in run.entries))
            raise NotFound(f"run {run.trace_id} has no event on '{topic}'; it has some on {there}")
        fork = str(uuid.uuid4())
        event = msgspec.structs.replace(
            entry.event,
            id=derive_id(fork, "rerun", topic),
            trace_id=fork,
            parent_id=None,
            created=time.time(),
            forked_from=run.trace_id,
        )
        raw = encode(event, self.settings)
        await asyncio.to_thread(self._append, {topic: [(event, raw)]})
        return fork

    async def cancel(self, trace_id: str) -> Run:
        """The run is to end where it is: a worker cuts off its calls, at once or when one starts,
        and none takes it up again. The run as it was. Raises `NotFound`, or `SettingsError` when it
        is over."""
        run = await self.read(trace_id)
        if run.state != RUNNING:
            raise SettingsError(f"run {run.trace_id} is over: it is {run.state}")
        topic = cancels.topic_name(self.settings.app_id)
        row = (topic, run.trace_id.encode(), msgspec.json.encode({"at": time.time()}))
        await asyncio.to_thread(self._write, [row])
        if self._kafka is not None and self.project.one_worker_topics:
            # Whoever does the work of one worker has not the run's own partition.
            await asyncio.to_thread(self._kafka.append, topic, [row[1:]], ONE_WORKER)
        return run

    def push_job(
        self,
        name: str,
        job: Mapping[str, Any] | bytes | bytearray | str,
        priority: str = LOW,
    ) -> PushedJob:
        """The job is on its topic, durably, for whoever takes it: `{"system_prompt": ..., "params":
        {"query": ..., "output_file": ..., "context": ...}}`, or the JSON of that.

        In a plain program it is there when this returns. In one with an event loop, where nothing
        may block, it is there when what is returned has been awaited: `await client.push_job(...)`.
        Raises `JobRefused` at once for what is no job, `ChainError` where there is no queue, and
        `BrokerUnavailable`. The same job pushed twice is done once.
        """
        self.project.require_sound()
        self._require_queue()
        check_job_name(name)
        read = read_job(name, job)
        topic = TOPICS[check_priority(priority)]
        event = job_event(read, priority)
        rows = {topic: [(event, encode(event, self.settings))]}

        def push() -> bool:
            return self._append(rows) == 0

        return PushedJob(self, name, event.trace_id, event.id, priority, push)

    def _require_queue(self) -> None:
        if PIPELINE not in self.project.chains:
            raise ChainError(
                f"{self.project.root.absolute()}: this project has no jobs queue. It is"
                f" topics/{PIPELINE}.yaml and agents/clerk.md: copy the two from Penstock's"
                " repository, or from docs/jobs.md"
            )

    async def job(self, name: str, id_: str | None = None) -> JobStatus:
        """What has become of the job `name`; with `id_`, of that one of the jobs pushed under it.
        Raises `NotFound`."""
        try:
            run = await self.read(trace_id_of(name))
        except NotFound as exc:
            raise NotFound(f"there is no job '{name}'") from exc
        return status_of(run, name, id_)

    async def jobs(self) -> list[JobStatus]:
        """Every job that is kept, in the order in which they were pushed. Raises `ChainError` where
        there is no queue."""
        self._require_queue()
        runs = await asyncio.to_thread(self.runs.read_all, PIPELINE)
        found = [status_of(run) for run in runs if pushes_of(run)]
        return sorted(found, key=lambda status: status.pushed)

    async def wait_job(
        self, name: str, id_: str | None = None, timeout_s: float | None = None
    ) -> JobStatus:
        """The job, once it is over. Raises `TimeoutError` after `timeout_s`, or `NotFound`."""
        try:
            async with asyncio.timeout(timeout_s):
                seen = None
                while True:
                    version = self.reader.version()
                    if version != seen:
                        seen = version
                        status = await self.job(name, id_)
                        if status.state != RUNNING:
                            return status
                    await asyncio.sleep(LOOK_S)
        except TimeoutError as exc:
            if timeout_s is None:
                raise
            raise TimeoutError(f"job '{name}' is not over after {timeout_s:g} s") from exc

    async def job_result(
        self, name: str, id_: str | None = None, timeout_s: float | None = None
    ) -> str:
        """The answer, once there is one. Raises `JobRefused` with the cause when there is none."""
        status = await self.wait_job(name, id_, timeout_s)
        if status.state != DONE:
            raise JobRefused(f"job '{name}' is {status.state}: {status.error or 'no answer'}")
        return as_text(status.answer)

    async def cancel_job(self, name: str) -> Run:
        """The job ends where it is. Raises `NotFound`, or `SettingsError` when it is over."""
        status = await self.job(name)
        if status.state != RUNNING:
            raise SettingsError(f"job '{name}' is over: it is {status.state}")
        return await self.cancel(trace_id_of(name))

    def letters(self) -> list[DeadLetter]:
        """The dead letters that are open, the oldest first."""
        return [letter for _, letter in self.runs.letters() if not letter.resolved]

    async def replay(self, letter_id: str, record: bytes | None = None) -> Event:
        """The event of the dead letter is on its topic again, for the stage that gave it up, or
        `record` in its place; the letter is closed. The trace stays, and what was recorded of the
        step is not paid for again. Raises `NotFound`, or `MalformedEvent` for what would only be
        given up once more."""
        found, letter = self._letter(letter_id)
        try:
            event = events.load(letter.record if record is None else record)
        except MalformedEvent as exc:
            way = "Mend it with --edit, or drop it." if record is None else "Nothing was replayed."
            raise MalformedEvent(f"dead letter {letter.id}: {exc.message}. {way}") from exc
        event = msgspec.structs.replace(event, replay=letter.replay + 1, only=letter.stage)
        raw = encode(event, self.settings)
        places = await asyncio.to_thread(
            self._write,
            [(letter.topic, event.key, raw), self._resolved(found, letter, deadletters.REPLAYED)],
        )
        if self.settings.event_log:
            self._log([(letter.topic, event, *places[0])])
        return event

    async def drop(self, letter_id: str) -> DeadLetter:
        """The dead letter is closed; its run stays dead. Raises `NotFound`."""
        found, letter = self._letter(letter_id)
        await asyncio.to_thread(self._write, [self._resolved(found, letter, deadletters.DROPPED)])
        return letter

    def _letter(self, letter_id: str) -> tuple[Found, DeadLetter]:
        for found, letter in self.runs.letters():
            if letter.id == letter_id:
                if letter.resolved:
                    raise NotFound(f"dead letter {letter_id} was {letter.resolved} before")
                return found, letter
        raise NotFound(f"there is no dead letter {letter_id}")

    def _resolved(self, found: Found, letter: DeadLetter, how: str) -> tuple[str, bytes, bytes]:
        closed = msgspec.structs.replace(letter, resolved=how)
        return found.topic, found.key, deadletters.dump(closed)

    def _write(self, rows: list[tuple[str, bytes, bytes]]) -> list[tuple[int, int]]:
        """`rows` (topic, key, value) are on their topics, in their order, and on the embedded
        broker all or none; the partition and offset of each."""
        if self._kafka is not None:
            return [self._kafka.append(topic, [(key, raw)])[0] for topic, key, raw in rows]
        places: list[tuple[int, int]] = []
        with self._appending:
            for topic, key, raw in rows:
                self.store.create(topic, self.settings.partitions)
                tp = TP(topic, self.store.partition_of(topic, key))

                def durable(offset: int, tp: TP = tp) -> None:
                    places.append((tp.partition, offset))

                self.store.append(tp, int(time.time() * 1000), key, raw, None, durable)
            self.store.commit_now()
        return places

    async def read(self, trace_id: str) -> Run:
        """The run as it is now. Raises `NotFound`."""
        return await asyncio.to_thread(self.runs.read, _checked(trace_id))

    async def follow(self, trace_id: str) -> AsyncIterator[Entry]:
        """Each event of the run, as it is made, until the run is over."""
        told: set[str] = set()
        seen = None
        while True:
            version = self.reader.version()
            if version != seen:
                seen = version
                run = await self.read(trace_id)
                for entry in run.entries:
                    if entry.event.id not in told:
                        told.add(entry.event.id)
                        yield entry
                if run.state != RUNNING:
                    return
            await asyncio.sleep(LOOK_S)

    async def wait(self, trace_id: str) -> Run:
        """The run, once it is over."""
        async for _ in self.follow(trace_id):
            pass
        return await self.read(trace_id)


def _kafka_reader(settings: Settings, project: Project) -> "KafkaReader":
    # Its driver takes a tenth of a second to import.
    from penstock.broker.kafka.reading import KafkaReader

    topics = [name for chain in project.chains.values() for name in chain.topics]
    own = [deadletters.topic_name(settings.app_id), cancels.topic_name(settings.app_id)]
    return KafkaReader(settings, [*topics, *own], project.one_worker_topics)


def _checked(trace_id: str) -> str:
    try:
        return str(uuid.UUID(trace_id))
    except ValueError as exc:
        raise SettingsError(f"{trace_id!r} is not a trace id: it is a UUID") from exc
