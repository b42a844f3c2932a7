"""The step `persist`: writes what a run came to as one row of `data/ai_history.csv`."""

import asyncio
import concurrent.futures
import dataclasses
import datetime
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from penstock.errors import Unavailable
from penstock.record.events import Event
from penstock.record.notes import about_text
from penstock.steps import Work
from penstock.steps.history import COLUMNS, History

NAME = "ai_history.csv"


@dataclasses.dataclass
class _Writer:
    """One file's history, and the thread that writes it."""

    history: History
    #: A thread of its own: a file that is slow or locked holds up nothing else.
    pool: concurrent.futures.ThreadPoolExecutor


_writers: dict[pathlib.Path, _Writer] = {}


async def persist(work: Work) -> None:
    """The run has its one row in the history, on the disk. A row that was there already stays. What
    the review found goes into the agents' memory.

    While the file cannot be written (locked, read-only, a full disk), the event waits and is tried
    again; that costs none of its attempts. Fails when the file is somebody else's.
    """
    writer = _writer(work.data.absolute() / NAME)
    row = row_of(work.event)
    await _remember(work)
    loop = asyncio.get_running_loop()
    history, file = writer.history, writer.history.file
    async with work.gates.call("history", str(file), lambda error: _explain(error, file)):
        await loop.run_in_executor(writer.pool, history.append, row)
    if history.mended is not None:
        work.signals.emit(history.mended)
        history.mended = None
    work.show(line_of(work.event))


def _explain(error: Exception, file: pathlib.Path) -> Exception:
    """A file that cannot be written now may pass, and says nothing about the event."""
    if not isinstance(error, OSError):
        return error
    unavailable = Unavailable(f"{file} cannot be written: {error.strerror or error}")
    unavailable.counts = False
    return unavailable


async def _remember(work: Work) -> None:
    task = _fields(work.parts.get("ai_topic"), "task")
    findings = _fields(work.parts.get("ai_reviews"), "critique").get("findings")
    if findings:
        about = about_text(task.get("title"), task.get("task"))
        await work.remember("pattern", about, _text(findings))


def line_of(event: Event) -> str:
    """What the run came to, for people: verdict, points, the rounds that it took."""
    cells = dict(zip(COLUMNS, row_of(event), strict=True))
    rounds = 1 + sum(event.rounds.values())
    tries = f"{rounds} tries" if rounds > 1 else "1 try"
    cause = f": {cells['cause']}" if cells["cause"] else ""
    title = cells["title"] or cells["task"][:80]
    mark = "✅" if cells["verdict"] == "PASS" else "❌"
    end = f"({tries}{cause})  {event.trace_id}"
    return f"{mark} {cells['verdict']:<4} {cells['score']:>2}/10  {title}  {end}"


def row_of(event: Event) -> list[str]:
    """The cells of a run's row, in the order of `COLUMNS`. Any value in any part has a text."""
    parts = event.parts
    task = _fields(parts.get("ai_topic"), "task")
    solution = _fields(parts.get("ai_solutions"), "code")
    review = _fields(parts.get("ai_reviews"), "critique")
    # A run that was given up with a fix request may have its verdict in place of the task.
    result = _fields(parts.get("ai_verified_solutions"), "verdict") or task
    found: dict[str, Any] = {
        "trace_id": event.trace_id,
        **{name: task.get(name) for name in ("title", "task", "input", "expected")},
        **{name: solution.get(name) for name in ("code", "explanation")},
        **{
            name: result.get(name)
            for name in ("verdict", "cause", "detail", "output", "error", "seconds")
        },
        **{name: review.get(name) for name in ("score", "findings", "critique")},
        "model": event.usage.model if event.usage else "",
        "written": datetime.datetime.fromtimestamp(event.created, datetime.UTC).strftime(
            "%Y-%m-%dT%H:%M:%SZ"
        ),
    }
    found["cause"] = "; ".join(filter(None, [_text(found["cause"]), event.ended]))
    return [_text(found[name]) for name in COLUMNS]


def _writer(file: pathlib.Path) -> _Writer:
    if file not in _writers:
        pool = concurrent.futures.ThreadPoolExecutor(1, "history")
        _writers[file] = _Writer(History(file), pool)
    return _writers[file]


def _fields(part: Any, name: str) -> Mapping[str, Any]:
    if isinstance(part, Mapping):
        return part
    return {} if part is None else {name: part}


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return "\n".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
