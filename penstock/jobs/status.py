"""Pushed jobs: the handle that a push gives, and what has become of a job."""

import asyncio
import dataclasses
from collections.abc import Callable, Generator, Iterable
from typing import Any, Protocol, cast

from penstock.errors import JobRefused, NotFound
from penstock.programs import has_loop
from penstock.record.jobs import FILES, TOPICS
from penstock.runs.runs import CANCELLED, DEAD, DONE, RUNNING, Entry, Run

#: A job under a name that another has; beside the states of runs.
REFUSED = "refused"


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobStatus:
    """What has become of a job. `pushed` is in seconds since 1970 UTC; `others` are those that were
    pushed under the same name and are not this one."""

    name: str
    state: str
    trace_id: str
    id: str
    priority: str
    pushed: float
    output_file: str
    file: str | None = None
    model: str = ""
    answer: Any = None
    error: str = ""
    others: tuple["JobStatus", ...] = ()


def pushes_of(run: Run) -> dict[str, Entry]:
    """The first events of the jobs pushed under one name, by their ids, the oldest first."""
    found: dict[str, Entry] = {}
    for entry in run.entries:
        event = entry.event
        first = event.parent_id is None and event.forked_from is None
        if first and entry.topic in TOPICS.values():
            found.setdefault(entry.event.id, entry)
    return found


def status_of(run: Run, name: str | None = None, id_: str | None = None) -> JobStatus:
    """What has become of the job that has the name, or of the one with the id `id_`. Raises
    `NotFound`."""
    found = [_status(run, entry, name) for entry in pushes_of(run).values()]
    if id_ is None:
        # The one that has the name, also before it is known to have it: the first.
        chosen = next((one for one in found if one.state != REFUSED), next(iter(found), None))
    else:
        chosen = next((one for one in found if one.id == id_), None)
    if chosen is None:
        raise NotFound(f"there is no such job under the name '{name or run.trace_id}'")
    others = tuple(one for one in found if one is not chosen)
    return dataclasses.replace(chosen, others=others)


def _status(run: Run, push: Entry, name: str | None) -> JobStatus:
    made: dict[str | None, list[str]] = {}
    for entry in run.entries:
        made.setdefault(entry.event.parent_id, []).append(entry.event.id)
    family, pending = set[str](), [push.event.id]
    while pending:
        id_ = pending.pop()
        if id_ not in family:
            family.add(id_)
            pending += made.get(id_, ())
    entries = [entry for entry in run.entries if entry.event.id in family]
    dead_letters = [
        dead_letter for dead_letter in run.dead_letters if dead_letter.event_id in family
    ]
    ends = [entry for entry in entries if entry.topic == FILES]
    error, file, answer, model = "", None, None, ""
    if any(entry.waits_for for entry in entries):
        state = RUNNING
    elif ends:
        state, event = DONE, ends[-1].event
        file = event.parts.get(FILES, {}).get("file")
        answer, model = _answer(event.parts), event.usage.model if event.usage else ""
    elif dead_letters:
        state = REFUSED if dead_letters[-1].cause == JobRefused.__name__ else DEAD
        error = f"{dead_letters[-1].cause}: {dead_letters[-1].message}"
        if state == REFUSED:
            error = dead_letters[-1].message
    else:
        # Nothing waits and nothing was made: somebody ended it.
        state = CANCELLED
    part = push.event.parts.get(push.topic)
    job = part if isinstance(part, dict) else {}
    return JobStatus(
        name=name or str(job.get("name", run.trace_id)),
        state=state,
        trace_id=run.trace_id,
        id=push.event.id,
        priority=next(word for word, topic in TOPICS.items() if topic == push.topic),
        pushed=push.event.created,
        output_file=str(job.get("output_file", "")),
        file=file,
        model=model,
        answer=answer,
        error=error,
    )


def _answer(parts: dict[str, Any]) -> Any:
    names: Iterable[str] = [name for name in parts if name != FILES]
    return parts[list(names)[-1]]


class Pusher(Protocol):
    """The client that pushed a job, as far as its handle asks it."""

    def job(self, name: str, id_: str | None = None) -> Any: ...

    def wait_job(
        self, name: str, id_: str | None = None, timeout_s: float | None = None
    ) -> Any: ...

    def job_result(
        self, name: str, id_: str | None = None, timeout_s: float | None = None
    ) -> Any: ...


class PushedJob:
    """A job that was pushed: a handle for plain programs, and awaitable in those with a loop.

    `again` says whether the same job was there before, as far as the broker can tell: the embedded
    one can.
    """

    def __init__(
        self,
        client: Pusher,
        name: str,
        trace_id: str,
        id_: str,
        priority: str,
        push: Callable[[], bool],
    ) -> None:
        self.name = name
        self.trace_id = trace_id
        self.id = id_
        self.priority = priority
        self.again = False
        self._client = client
        self._landing: asyncio.Future[bool] | None = None
        if has_loop():
            # Under way from here on, whether or not somebody awaits it.
            self._landing = asyncio.get_running_loop().run_in_executor(None, push)
        else:
            self.again = push()

    def __await__(self) -> Generator[Any, None, "PushedJob"]:
        if self._landing is not None:
            self.again = yield from self._landing.__await__()
        return self

    def __repr__(self) -> str:
        return f"PushedJob({self.name!r}, {self.priority!r}, trace_id={self.trace_id!r})"

    # In a program with an event loop they are awaited, as the client's own are.

    def status(self) -> JobStatus:
        """What has become of it."""
        return cast(JobStatus, self._client.job(self.name, self.id))

    def wait(self, timeout_s: float | None = None) -> JobStatus:
        """The job, once it is over. Raises `TimeoutError`."""
        return cast(JobStatus, self._client.wait_job(self.name, self.id, timeout_s))

    def result(self, timeout_s: float | None = None) -> str:
        """The answer, once there is one. Raises `JobRefused` with the cause when there is none."""
        return cast(str, self._client.job_result(self.name, self.id, timeout_s))
