"""Health: how each thing that a worker needs is, in a file beside its data that `status` reads.

A file, and no event: what a broker that is away would carry would say nothing of it.
"""

import asyncio
import contextlib
import logging
import os
import pathlib
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.errors import PenstockError
from penstock.steps.sandbox import outage_here

if TYPE_CHECKING:
    from penstock.worker.application import PenstockApp

log = logging.getLogger(__name__)

UP, DOWN, STARTING = "up", "down", "starting"
#: Seconds between two looks, and at most between two writes: a file that is older has no worker.
LOOK_S, TELL_S = 0.5, 5.0
#: Seconds without a word after which a worker counts as gone, and after which its file goes.
SILENT_S, FORGET_S = 15.0, 86_400.0


class Part(msgspec.Struct, frozen=True):
    """One thing that a worker needs. `since` is when the state began, in seconds since 1970."""

    what: str
    state: str
    detail: str
    since: float | None = None


class Health(msgspec.Struct, frozen=True):
    """One worker, as it said at `told` (seconds since 1970)."""

    worker: str
    pid: int
    host: str
    told: float
    parts: tuple[Part, ...]
    pipelines: tuple[str, ...] = ()

    @property
    def is_silent(self) -> bool:
        """It has said nothing for so long that it was killed, or is suspended."""
        return time.time() - self.told > SILENT_S


def parts_of(app: "PenstockApp") -> Iterator[Part]:
    """Each thing that the worker needs and has asked for, as it is now."""
    settings = app.settings
    url = settings.redact(settings.broker_url)
    state, detail, since = app.broker.status
    yield Part("broker", state, f"{url}{detail and ': '}{detail}", since)
    for outage in app.outages:
        detail = outage.name
        if outage.error is not None:
            # A server's words may be no Unicode, which no file could hold.
            detail += f": {outage.error.message.encode('utf-8', 'replace').decode()}"
        yield Part("model", DOWN if outage.down else UP, detail, outage.since)
    memory = app.memory_status
    if memory is not None:
        state = STARTING if memory.state == "opening" else memory.state
        yield Part("memory", state, str(memory), memory.since)
    sandbox = outage_here()
    if sandbox.error is not None:
        yield Part("sandbox", DOWN, sandbox.error.message, sandbox.since)
    elif app.sandbox is not None:
        good, detail = app.sandbox
        yield Part("sandbox", UP if good else DOWN, detail)


class HealthFile:
    """A worker's own file. It is there from the worker's start to its end, and says the latest."""

    def __init__(self, app: "PenstockApp") -> None:
        self._app = app
        settings = app.settings
        self._name = settings.worker_id or f"{socket.gethostname()}-{os.getpid()}"
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

    async def _keep(self) -> None:
        await asyncio.to_thread(forget_killed, self._app.settings.data)
        written: tuple[Part, ...] = ()
        at, said = 0.0, False
        while True:
            try:
                parts = tuple(parts_of(self._app))
                if parts != written or time.time() - at >= TELL_S:
                    written, at = parts, time.time()
                    await asyncio.to_thread(self._write, self._as_json(parts))
                    said = False
            except Exception as exc:
                # The work does not wait for a file that tells of it.
                if not said:
                    log.warning("%s cannot be written: %s", self._file, exc)
                said = True
            await asyncio.sleep(LOOK_S)

    def _as_json(self, parts: tuple[Part, ...]) -> bytes:
        app = self._app
        made = Health(
            self._name,
            os.getpid(),
            socket.gethostname(),
            time.time(),
            parts,
            (app.only,) if app.only else tuple(sorted(app.project.chains)),
        )
        return self._app.settings.redact(msgspec.json.encode(made).decode()).encode()

    def _write(self, data: bytes) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        draft = self._file.with_suffix(".new")
        draft.write_bytes(data)
        draft.replace(self._file)


def folder_of(data: pathlib.Path) -> pathlib.Path:
    return data / "status"


def read_all(data: pathlib.Path, app_id: str) -> list[Health]:
    """What the workers on this PENSTOCK_DATA said last, by their names. What was killed long ago
    is forgotten."""
    found = []
    for file in sorted(folder_of(data).glob("*.json")):
        with contextlib.suppress(OSError, msgspec.DecodeError):
            health = msgspec.json.decode(file.read_bytes(), type=Health)
            if time.time() - health.told > FORGET_S:
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


def forget_killed(data: pathlib.Path) -> None:
    """What workers of this machine said that are no longer there is gone."""
    for file in folder_of(data).glob("*.json"):
        with contextlib.suppress(OSError, msgspec.DecodeError):
            health = msgspec.json.decode(file.read_bytes(), type=Health)
            if health.host == socket.gethostname() and not _is_there(health.pid):
                file.unlink(missing_ok=True)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass  # somebody else's
    except ProcessLookupError:
        return False
    return True


async def try_sandbox(app: "PenstockApp") -> bool:
    """Whether the sandbox holds; tried until it does, and said when that changes."""
    from penstock.sandbox import self_test

    if outage_here().down:
        return False  # what waits for it finds out when it is back
    if app.sandbox is not None and app.sandbox[0]:
        return True
    tier: Any = app.settings.sandbox
    try:
        await self_test(tier)
    except PenstockError as exc:
        if app.sandbox is None:
            log.error(
                "%s Until then no code of a model is run: its events wait, and no runs are begun"
                " by a timer.",
                exc.message,
                extra={"action": "sandbox_refuses"},
            )
        app.sandbox = (False, exc.message)
        return False
    app.sandbox = (True, f"{tier}: holds, tried when the worker started")
    log.info("Sandbox %s: its self-test found no way out", tier)
    return True
