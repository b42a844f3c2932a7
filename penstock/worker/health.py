"""Health: how each thing that a worker needs is, in a file beside its data that `status` reads.

A file, and no event: what a broker that is away would carry would say nothing of it.
"""

import asyncio
import contextlib
import heapq
import os
import pathlib
import socket
import time
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from penstock import private
from penstock.conditions import DOWN, Condition
from penstock.project.files import differing, way_out
from penstock.project.project import Project
from penstock.settings import Settings
from penstock.signals import HealthUnwritten, Signals
from penstock.under_way import Step, UnderWay

#: Seconds between two looks, and at most between two writes: a file that is older has no worker.
LOOK_S, WRITE_S = 0.5, 5.0
#: Seconds without a write after which a worker counts as gone, and after which its file goes.
SILENT_S, FORGET_S = 15.0, 86_400.0
#: Steps under way that are written at most.
MOST_STEPS = 200

#: Files that a sentence names.
NAMED = 4


class Reload(msgspec.Struct, frozen=True):
    """What came of the cards that a worker read anew, `at` seconds since 1970."""

    at: float
    taken: bool
    said: str


class Health(msgspec.Struct, frozen=True):
    """One worker, as it was at `written` (seconds since 1970)."""

    worker: str
    pid: int
    host: str
    # The names in the file stay: workers of other versions share the folder.
    written: float = msgspec.field(name="told")
    conditions: tuple[Condition, ...] = msgspec.field(name="parts")
    pipelines: tuple[str, ...] = ()
    #: The project's files as it works with them, each with its digest.
    files: dict[str, str] = {}
    #: Whether SIGHUP has it take its cards anew, and what came of it last.
    takes_cards: bool = False
    reload: Reload | None = None
    #: What it does now, the oldest first.
    steps: tuple[Step, ...] = ()

    @property
    def is_killed(self) -> bool:
        """Its process is gone, as far as this machine can know, and has not said so."""
        return self.host == socket.gethostname() and not _is_there(self.pid)

    @property
    def is_silent(self) -> bool:
        """It was killed, or has written nothing for so long that it was, or is suspended."""
        return self.is_killed or time.time() - self.written > SILENT_S


def name_of(settings: Settings) -> str:
    """Return the name of the worker that this process is."""
    return settings.worker_id or f"{socket.gethostname()}-{os.getpid()}"


class HealthFile:
    """A worker's own file. It is there from the worker's start to its end, and says the latest."""

    def __init__(
        self,
        settings: Settings,
        pipelines: tuple[str, ...],
        project: Project,
        conditions: Callable[[], Iterable[Condition]],
        signals: Signals,
        *,
        takes_cards: bool = False,
        under_way: Collection[UnderWay] = (),
    ) -> None:
        self._settings = settings
        self._pipelines = pipelines
        self._project = project
        self._takes_cards = takes_cards
        self._under_way = under_way
        self._reload: Reload | None = None
        self._conditions = conditions
        self._signals = signals
        self._name = name_of(settings)
        self._file = folder_of(settings.data) / f"{settings.app_id}-{self._name}.json"
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="health")

    async def stop(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._file.unlink, missing_ok=True)

    def say_of_reload(self, said: str, taken: bool) -> None:
        """Have the file say what came of the cards that were read anew."""
        self._reload = Reload(time.time(), taken, said)

    async def _keep(self) -> None:
        await asyncio.to_thread(forget_killed, self._settings.data)
        written: object = None
        at, failed = 0.0, False
        while True:
            try:
                oldest = heapq.nsmallest(MOST_STEPS, self._under_way, key=lambda one: one.since)
                steps = tuple(one.as_it_is() for one in oldest)
                now = (tuple(self._conditions()), self._reload, steps)
                if now != written or time.time() - at >= WRITE_S:
                    written, at = now, time.time()
                    await asyncio.to_thread(self._write, self._as_json(*now))
                    failed = False
            except Exception as exc:
                # The work does not wait for a file that is about it.
                if not failed:
                    self._signals.emit(HealthUnwritten(str(self._file), str(exc)))
                failed = True
            await asyncio.sleep(LOOK_S)

    def _as_json(
        self, conditions: tuple[Condition, ...], reload: Reload | None, steps: tuple[Step, ...]
    ) -> bytes:
        health = Health(
            self._name,
            os.getpid(),
            socket.gethostname(),
            time.time(),
            conditions,
            self._pipelines,
            self._project.files,
            self._takes_cards,
            reload,
            steps,
        )
        return self._settings.redactor.record(msgspec.json.encode(health))

    def _write(self, data: bytes) -> None:
        private.make_folder(self._file.parent)
        draft = self._file.with_suffix(".new")
        private.make_file(draft)
        draft.write_bytes(data)
        draft.replace(self._file)


def folder_of(data: pathlib.Path) -> pathlib.Path:
    return data / "status"


def read_all(data: pathlib.Path, app_id: str) -> list[Health]:
    """What the workers on this PENSTOCK_DATA wrote last, by their names. What was killed long ago
    is forgotten."""
    found = []
    for file in sorted(folder_of(data).glob("*.json")):
        with contextlib.suppress(OSError, msgspec.DecodeError):
            health = msgspec.json.decode(file.read_bytes(), type=Health)
            if time.time() - health.written > FORGET_S:
                file.unlink(missing_ok=True)
            elif file.name == f"{app_id}-{health.worker}.json":
                found.append(health)
    return found


def who_works_elsewhere(data: pathlib.Path, app_id: str, pipeline: str) -> str:
    """A sentence, when workers are there and none of them does the work of `pipeline`."""
    there = [one for one in read_all(data, app_id) if not one.is_silent]
    if not there or any(pipeline in one.pipelines for one in there):
        return ""
    one = there[0]
    return (
        f"the worker that is running (pid {one.pid}) works on {', '.join(one.pipelines)}, and not"
        f" on '{pipeline}'. Stop it, or give this project a place of its own: PENSTOCK_DATA"
    )


def who_has_other_files(data: pathlib.Path, app_id: str, files: Mapping[str, str]) -> str:
    """A sentence, when a worker that is there has read `files` before they were changed."""
    for one in read_all(data, app_id):
        changed = () if one.is_silent or not one.files else differing(one.files, files)
        if changed:
            more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
            return (
                f"the worker that is running (pid {one.pid}) works with"
                f" {', '.join(changed[:NAMED])}{more} as it read them before they were changed;"
                f" {way_out(changed)}"
            )
    return ""


def steps_of(data: pathlib.Path, app_id: str, trace_id: str) -> list[Step]:
    """What workers that are there do now for the run."""
    return [
        step
        for health in read_all(data, app_id)
        if not health.is_silent
        for step in health.steps
        if step.trace_id == trace_id
    ]


def what_is_down(data: pathlib.Path, app_id: str) -> dict[str, Condition]:
    """What workers that are there wait for, or are held up by, by what it is and who it is."""
    return {
        f"{one.what} {one.reason}": one
        for health in read_all(data, app_id)
        if not health.is_silent
        for one in health.conditions
        if one.state == DOWN
    }


def forget_killed(data: pathlib.Path) -> None:
    """What workers of this machine wrote that are no longer there is gone."""
    for file in folder_of(data).glob("*.json"):
        with contextlib.suppress(OSError, msgspec.DecodeError):
            health = msgspec.json.decode(file.read_bytes(), type=Health)
            if health.is_killed:
                file.unlink(missing_ok=True)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass  # somebody else's
    except ProcessLookupError:
        return False
    return True
