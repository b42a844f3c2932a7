"""The client: begin runs, follow them and read them, from any process.

from penstock import Client

with Client() as client:
    trace_id = client.submit("story", {"premise": "A shy volcano"})
    for entry in client.follow(trace_id):
        print(entry.topic, entry.event.agent)

In a program with an event loop it is the same with `async with`, `await` and `async for`.
"""

import asyncio
import logging
import sys
import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec

from penstock.broker import open_broker
from penstock.broker.contract import Beginning, Found, Location, Row, Unread
from penstock.errors import ChainError, JobRefused, MalformedEvent, NotFound, SettingsError
from penstock.jobs.status import JobStatus, PushedJob, pushes_of, status_of
from penstock.programs import Plain, Stream, in_any_program
from penstock.project.plain import begin_plain
from penstock.project.project import Project, read_project
from penstock.record import dead_letters as dead_letter_records
from penstock.record import events
from penstock.record.beginnings import encode, log_begun
from penstock.record.dead_letters import DeadLetter
from penstock.record.event_log import EventLog
from penstock.record.events import (
    Event,
    as_text,
    as_trace_id,
    check_tags,
    derive_id,
    first_event,
)
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
from penstock.runs.index import Index, Progress
from penstock.runs.runs import DONE, RUNNING, Entry, Run, Runs
from penstock.settings import Settings

log = logging.getLogger(__name__)

#: Seconds between looks at a run that somebody follows.
LOOK_S = 0.05


class Client:
    """The pipelines of a project, from outside their worker. Raises `PenstockError`s.

    Where a method is `async`, a plain program just calls it; one with an event loop awaits it.
    """

    def __init__(self, settings: Settings | None = None, project: Project | None = None) -> None:
        self.settings = settings or Settings.read()
        self.project = project or read_project(self.settings.root)
        self.broker = open_broker(self.settings, self.project.plan(self.settings.app_id))
        self.runs = Runs(self.settings, self.project, self.broker)
        #: Runs to be listed, searched and summed: `await client.refresh()` first.
        self.index = Index(self.settings, self.project, self.broker)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __enter__(self) -> "PlainClient":
        return cast("PlainClient", self)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.index.close()
        self.broker.close()

    def worker_running(self) -> bool:
        """Whether a worker is there to do the work."""
        return self.broker.worker_running()

    @in_any_program
    async def submit(
        self,
        pipeline: str,
        parts: dict[str, Any],
        trace_id: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """The run has begun, durably; its trace id. It can be found by its `tags`, which no prompt
        has. With a `trace_id` that was begun before nothing
        is begun again, for as long as that run is kept: the same content is the same run, and
        another one is refused. Raises `RunBegunBefore` then (on Kafka, where only workers know, it
        becomes a dead letter of that cause), `ChainError`, `EventTooLarge` or `BrokerUnavailable`.
        """
        (first,) = await self.submit_many(pipeline, [(parts, trace_id, tags)])
        return first

    @in_any_program
    async def submit_many(
        self,
        pipeline: str,
        runs: Sequence[
            tuple[dict[str, Any], str | None]
            | tuple[dict[str, Any], str | None, Mapping[str, str] | None]
        ],
    ) -> list[str]:
        """All of the runs have begun, or none of them; their trace ids, in order. Of each its
        parts, its trace id if it is to have one of its own, and its tags."""
        self.project.require_sound()
        rows = [self.check(pipeline, *run) for run in runs]
        chain = self.project.chain(pipeline)
        begun = [(chain.entry_of(event.parts), event, raw) for event, raw in rows]
        await asyncio.to_thread(self._begin, begun)
        return [event.trace_id for event, _ in rows]

    def check(
        self,
        pipeline: str,
        parts: dict[str, Any],
        trace_id: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> tuple[Event, bytes]:
        """The first event of such a run, and its record; nothing is begun. Raises what `submit`
        would."""
        chain = self.project.chain(pipeline)
        if trace_id is not None:
            trace_id = _checked(trace_id)
        try:
            check_tags(tags or {})
        except ValueError as exc:
            raise SettingsError(str(exc)) from exc
        event = first_event(chain.name, chain.read_parts(parts), trace_id, tags=tags)
        return event, encode(event, self.settings)

    def _begin(self, runs: list[tuple[str, Event, bytes]]) -> int:
        """The runs have begun, each once; how many had not before, as far as the broker can say."""
        beginnings = [Beginning(topic, event.id, event.key, raw) for topic, event, raw in runs]
        begun = [
            (topic, event, location)
            for (topic, event, _), location in zip(runs, self.broker.begin(beginnings), strict=True)
            if location is not None
        ]
        self._log(begun)
        return len(begun)

    def _log(self, begun: list[tuple[str, Event, Location]]) -> None:
        """Beside the worker's lines. Never rotated from here: the worker would go on in the file
        that it has open."""
        settings = self.settings
        if not begun or not settings.event_log:
            return
        redact = settings.redactor.json
        event_log = EventLog(settings.logs, max_bytes=sys.maxsize, files=0, redact=redact)
        try:
            event_log.start()
        except SettingsError as exc:
            log.warning("%s", exc)  # the runs have begun
            return
        for topic, event, location in begun:
            log_begun(event_log, topic, event, *location)
        event_log.stop()

    @in_any_program
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
        await asyncio.to_thread(self._begin, [(topic, event, raw)])
        return fork

    @in_any_program
    async def cancel(self, trace_id: str) -> Run:
        """The run is to end where it is: a worker cuts off its calls, at once or when one starts,
        and none takes it up again. The run as it is then. Raises `NotFound`, or `SettingsError`
        when it is over."""
        run = await self.read(trace_id)
        if run.state != RUNNING:
            raise SettingsError(f"run {run.trace_id} is over: it is {run.state}")

        def cancel() -> None:
            self._cancel(run.trace_id.encode())
            self._let_go(run.trace_id.encode(), [one.topic for one in self.unread()])

        await asyncio.to_thread(cancel)
        return await self.read(trace_id)

    @in_any_program
    async def cancel_unread(self, topic: str) -> list[str]:
        """The runs end whose events wait on `topic`, which no stage reads any more; their keys.
        Raises `NotFound` when nothing waits there."""
        unread = await asyncio.to_thread(self.unread)
        if topic not in {one.topic for one in unread}:
            there = ", ".join(f"'{one.topic}'" for one in unread) or "none"
            raise NotFound(
                f"nothing waits on '{topic}' for stages that no chain has any more. Topics where"
                f" something does: {there}"
            )

        def cancel() -> list[str]:
            keys = dict.fromkeys(found.key for found in self._waiting(topic, None) if found.key)
            for key in keys:
                self._cancel(key)
            self._let_go(None, [topic])
            return [key.decode(errors="replace") for key in keys]

        return await asyncio.to_thread(cancel)

    def unread(self) -> list[Unread]:
        """What waits on topics that no stage reads any more."""
        with self.broker.snapshot():
            return self.broker.unread()

    def _cancel(self, key: bytes) -> None:
        self.broker.cancel(key, msgspec.json.encode({"at": time.time()}))

    def _waiting(self, topic: str, key: bytes | None) -> list[Found]:
        """What waits on `topic`, which no stage reads any more."""
        with self.broker.snapshot():
            waiting = (one.stages for one in self.broker.unread() if one.topic == topic)
            stages = next(waiting, ())
            return [
                found
                for found in self.broker.find(topic, key)
                if not all(self.broker.is_done(name, found) for name in stages)
            ]

    def _let_go(self, key: bytes | None, topics: list[str]) -> None:
        waiting = [found for topic in topics for found in self._waiting(topic, key)]
        if waiting:
            self.broker.let_go(waiting)

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
        rows = [(topic, event, encode(event, self.settings))]

        def push() -> bool:
            return self._begin(rows) == 0

        return PushedJob(self, name, event.trace_id, event.id, priority, push)

    def _require_queue(self) -> None:
        if PIPELINE not in self.project.chains:
            raise ChainError(
                f"{self.project.root.absolute()}: this project has no jobs queue. It is"
                f" topics/{PIPELINE}.yaml and agents/clerk.md: copy the two from Penstock's"
                " repository, or from docs/jobs.md"
            )

    @in_any_program
    async def job(self, name: str, id_: str | None = None) -> JobStatus:
        """What has become of the job `name`; with `id_`, of that one of the jobs pushed under it.
        Raises `NotFound`."""
        try:
            run = await self.read(trace_id_of(name))
        except NotFound as exc:
            raise NotFound(f"there is no job '{name}'") from exc
        return status_of(run, name, id_)

    @in_any_program
    async def jobs(self) -> list[JobStatus]:
        """Every job that is kept, in the order in which they were pushed. Raises `ChainError` where
        there is no queue."""
        self._require_queue()
        runs = await asyncio.to_thread(self.runs.read_all, PIPELINE)
        found = [status_of(run) for run in runs if pushes_of(run)]
        return sorted(found, key=lambda status: status.pushed)

    @in_any_program
    async def wait_job(
        self, name: str, id_: str | None = None, timeout_s: float | None = None
    ) -> JobStatus:
        """The job, once it is over. Raises `TimeoutError` after `timeout_s`, or `NotFound`."""
        try:
            async with asyncio.timeout(timeout_s):
                seen = None
                while True:
                    version = self.broker.version()
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

    @in_any_program
    async def job_result(
        self, name: str, id_: str | None = None, timeout_s: float | None = None
    ) -> str:
        """The answer, once there is one. Raises `JobRefused` with the cause when there is none."""
        status = await self.wait_job(name, id_, timeout_s)
        if status.state != DONE:
            raise JobRefused(f"job '{name}' is {status.state}: {status.error or 'no answer'}")
        return as_text(status.answer)

    @in_any_program
    async def cancel_job(self, name: str) -> Run:
        """The job ends where it is. Raises `NotFound`, or `SettingsError` when it is over."""
        status = await self.job(name)
        if status.state != RUNNING:
            raise SettingsError(f"job '{name}' is over: it is {status.state}")
        return await self.cancel(trace_id_of(name))

    def dead_letters(self) -> list[DeadLetter]:
        """The dead letters that are open, the oldest first."""
        return [
            dead_letter for _, dead_letter in self.runs.dead_letters() if not dead_letter.resolved
        ]

    @in_any_program
    async def replay(self, dead_letter_id: str, record: bytes | None = None) -> Event:
        """The event of the dead letter is on its topic again, for the stage that gave it up, or
        `record` in its place; the letter is closed. The trace stays, and what was recorded of the
        step is not paid for again; only calls whose answers were judged unusable are made anew.
        Raises `NotFound`, or `MalformedEvent` for what would only be given up once more."""
        found, dead_letter = self._dead_letter(dead_letter_id)
        where = (dead_letter.stage, dead_letter.topic)
        if not any((stage.name, stage.reads) == where for stage in self.project.stages):
            # Other stages leave a replay to the one that it is for: nobody would do it.
            raise MalformedEvent(
                f"dead letter {dead_letter.id}: no stage '{dead_letter.stage}' reads"
                f" '{dead_letter.topic}' any more, and the replay would be for it. Call a stage so"
                f" in the chain ('name: {dead_letter.stage}'), or drop the letter"
            )
        try:
            raw = record
            if raw is None:
                raw = await asyncio.to_thread(self.record_of, dead_letter)
            event = self._again(found, dead_letter, raw)
        except MalformedEvent as exc:
            way = "Mend it with --edit, or drop it." if record is None else "Nothing was replayed."
            raise MalformedEvent(f"dead letter {dead_letter.id}: {exc.message}. {way}") from exc
        raw = encode(event, self.settings)
        closed = self._resolved(found, dead_letter, dead_letter_records.REPLAYED)
        again = Row(dead_letter.topic, event.key, raw)
        location, _ = await asyncio.to_thread(self.broker.append, [again, closed])
        self._log([(dead_letter.topic, event, location)])
        return event

    def _again(self, found: Found, dead_letter: DeadLetter, raw: bytes) -> Event:
        """The event in `raw`, the record of the dead letter, for a replay."""
        chain = self.project.chains.get(dead_letter.pipeline)
        plain = chain is not None and chain.accepts_plain(dead_letter.topic)
        if chain is not None and plain and not events.is_envelope(raw):
            # The run that the record would have begun. Nothing was recorded of it.
            keyed = found.key.decode(errors="replace") != dead_letter.position
            return begin_plain(chain, dead_letter.position, found.key if keyed else None, raw)
        event = events.load(raw)
        return msgspec.structs.replace(
            event,
            replay=dead_letter.replay + 1,
            only=dead_letter.stage,
            anew=list(dict.fromkeys([*event.anew, *dead_letter.unusable])),
        )

    @in_any_program
    async def drop(self, dead_letter_id: str) -> DeadLetter:
        """The dead letter is closed; its run stays dead. Raises `NotFound`."""
        found, dead_letter = self._dead_letter(dead_letter_id)
        closed = self._resolved(found, dead_letter, dead_letter_records.DROPPED)
        await asyncio.to_thread(self.broker.append, [closed])
        return dead_letter

    def record_of(self, dead_letter: DeadLetter) -> bytes:
        """Return the record of the dead letter as it stood on its topic. Only one that the letter
        does not hold is looked for there. Raises `NotFound` when that is gone."""
        if dead_letter.record is not None:
            return dead_letter.record
        location = (dead_letter.partition, dead_letter.offset)
        for found in self.broker.find(dead_letter.topic, None, dead_letter.offset):
            if (found.partition, found.offset) == location:
                return found.value
        raise NotFound(
            f"dead letter {dead_letter.id} does not hold its record, and"
            f" {dead_letter.topic}/{location[0]}/{location[1]} is gone: retention has deleted it"
        )

    def _dead_letter(self, dead_letter_id: str) -> tuple[Found, DeadLetter]:
        for found, dead_letter in self.runs.dead_letters():
            if dead_letter.id == dead_letter_id:
                if dead_letter.resolved:
                    raise NotFound(
                        f"dead letter {dead_letter_id} was {dead_letter.resolved} before"
                    )
                return found, dead_letter
        raise NotFound(f"there is no dead letter {dead_letter_id}")

    def _resolved(self, found: Found, dead_letter: DeadLetter, how: str) -> Row:
        closed = msgspec.structs.replace(dead_letter, resolved=how)
        return Row(found.topic, found.key, dead_letter_records.dump(closed))

    @in_any_program
    async def read(self, trace_id: str) -> Run:
        """The run as it is now. Raises `NotFound`."""
        return await asyncio.to_thread(self.runs.read, _checked(trace_id))

    @in_any_program
    async def refresh(self, progress: Progress | None = None) -> None:
        """Take into `index` what was written since. Raises `BrokerUnavailable`."""
        await asyncio.to_thread(self.index.refresh, progress)

    def follow(self, trace_id: str) -> Stream[Entry]:
        """Each event of the run, as it is made, until the run is over: for `for` in a plain
        program, for `async for` in one with an event loop."""
        return Stream(self._follow(trace_id))

    async def _follow(self, trace_id: str) -> AsyncGenerator[Entry, None]:
        seen_ids: set[str] = set()
        seen = None
        while True:
            version = self.broker.version()
            if version != seen:
                seen = version
                run = await self.read(trace_id)
                for entry in run.entries:
                    if entry.event.id not in seen_ids:
                        seen_ids.add(entry.event.id)
                        yield entry
                if run.state != RUNNING:
                    return
            await asyncio.sleep(LOOK_S)

    @in_any_program
    async def wait(self, trace_id: str) -> Run:
        """The run, once it is over."""
        async for _ in self.follow(trace_id):
            pass
        return await self.read(trace_id)


if TYPE_CHECKING:

    class PlainClient(Plain, Client):
        """A client inside `with`, where nothing is awaited."""


def _checked(trace_id: str | uuid.UUID) -> str:
    try:
        return as_trace_id(trace_id)
    except ValueError as exc:
        raise SettingsError(f"{trace_id!r} is not a trace id: it is a UUID") from exc
