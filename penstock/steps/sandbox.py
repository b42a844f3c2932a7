"""The step `sandbox`: runs the code of a run with the task's example, and says what came of it."""

import asyncio
import json
import re
import weakref
from collections.abc import Mapping
from typing import Any, cast

from penstock.errors import SandboxUnavailable, Unavailable
from penstock.record.notes import about_text
from penstock.sandbox import Limits, Tier, run_code, self_test, verdict
from penstock.settings import Settings
from penstock.steps import Work

#: Scripts at once in a worker: together they may take this many times the memory of one.
AT_ONCE = 4
OUTPUT_BYTES, DISK_MB = 200_000, 16
#: Characters of an output that travel with the event. It is a prompt of the next agents too.
QUOTED_CHARS = 4_000
_FENCE = re.compile(r"\s*```[^\n`]*\n(.*?)(?:\n```\s*)?", re.DOTALL)

#: Each event loop has as many of its own.
_at_once: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
    weakref.WeakKeyDictionary()
)


def limits_of(settings: Settings) -> Limits:
    """What a program may use, as the settings have it."""
    return Limits(settings.sandbox_s, settings.sandbox_mb, OUTPUT_BYTES, DISK_MB)


async def sandbox(work: Work) -> dict[str, Any]:
    """The verdict on `ai_solutions`, with the task's words, so that it can be a fix request too.

    `verdict` is PASS or FAIL; `cause`, `detail`, `output`, `error` and `seconds` say why. The task
    is `ai_topic`: its `input` goes to stdin and its `expected` is compared outside; without one the
    code must run to its end. A verdict that was recorded is not made again after a crash. What came
    of the code goes into the agents' memory.
    """
    task, solution = work.parts.get("ai_topic"), work.parts.get("ai_solutions")
    given = task if isinstance(task, Mapping) else {"task": _text(task)}
    code = _text(solution.get("code") if isinstance(solution, Mapping) else solution)
    fenced = _FENCE.fullmatch(code)
    code = fenced[1] if fenced else code
    expected = given.get("expected")
    asked = [code, _text(given.get("input")), None if expected is None else _text(expected)]
    kept = {name: given[name] for name in ("title", "task", "input", "expected") if name in given}
    settings = work.settings
    limits = limits_of(settings)

    async def judged(code: str, stdin: str, expected: str | None) -> dict[str, Any]:
        # Until it isolates the stage pauses, as it does for a model that is away. The event is not
        # to blame, and what it cost so far is not lost.
        async with work.gates.call(sandbox.__name__, "The sandbox", _explain):
            return await judge(code, stdin, expected, limits, cast(Tier, settings.sandbox))

    found = await work.call("sandbox", judged, *asked)
    explained = solution.get("explanation") if isinstance(solution, Mapping) else None
    about = about_text(given.get("title"), given.get("task"))
    if found["verdict"] == "PASS":
        await work.remember("success", about, _text(explained) or code[:QUOTED_CHARS])
    else:
        await work.remember("failure", about, _lesson(found))
        title = _text(given.get("title") or given.get("task"))
        work.show(f"❌ FAIL         {title[:80]}: {found['cause']}")
    return {**kept, **found}


async def isolates(settings: Settings) -> str:
    """Say that nothing was found that leads out of the sandbox. Raises `SandboxUnavailable`."""
    await self_test(cast(Tier, settings.sandbox))
    return f"{settings.sandbox}: holds; its self-test found no way out"


def _explain(error: Exception) -> Exception:
    """A sandbox that does not isolate may do so again, and says nothing about the event."""
    if not isinstance(error, SandboxUnavailable):
        return error
    unavailable = Unavailable(error.message)
    unavailable.counts = False
    return unavailable


def _lesson(found: Mapping[str, Any]) -> str:
    """What a failure teaches: its cause, and the last line of the error, which says most."""
    last = str(found["error"]).rstrip().rpartition("\n")[2]
    return ": ".join(text for text in (found["cause"], found["detail"], last) if text)


async def judge(
    code: str, stdin: str, expected: str | None, limits: Limits, tier: Tier = "native"
) -> dict[str, Any]:
    """The verdict on `code`, as JSON, every text of it capped. `AT_ONCE` are judged at a time.

    Raises `SandboxUnavailable` where nothing can be isolated, `Unavailable` when a process could
    not be started now.
    """
    if not code.strip():
        return _verdict("FAIL", "no code", "there is no program to run")
    at_once = _at_once.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE))
    async with at_once:
        try:
            outcome = await run_code(code, stdin, limits, tier)
        except SandboxUnavailable as exc:
            if isinstance(exc.__cause__, OSError):
                raise Unavailable(exc.message) from exc  # no memory or no process left, for one
            raise
        except OSError as exc:
            raise Unavailable(f"no program can be run now: {exc.strerror or exc}") from exc
    found = verdict(outcome, expected)
    output = outcome.stdout
    if len(output) > QUOTED_CHARS:
        output = f"{output[:QUOTED_CHARS]}… ({len(output):,} characters)"
    error = outcome.stderr
    if len(error) > QUOTED_CHARS:
        error = f"({len(error):,} characters) …{error[-QUOTED_CHARS:]}"  # its end says most
    return _verdict(
        found.result, found.cause, found.detail, output, error, round(outcome.seconds, 3)
    )


def _verdict(
    result: str, cause: str, detail: str, output: str = "", error: str = "", seconds: float = 0.0
) -> dict[str, Any]:
    return {
        "verdict": result,
        "cause": cause,
        "detail": detail,
        "output": output,
        "error": error,
        "seconds": seconds,
    }


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
