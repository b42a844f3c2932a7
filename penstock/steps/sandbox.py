"""The step `sandbox`: runs the code of a run with the task's example, and says what came of it."""

import asyncio
import json
import re
import weakref
from collections.abc import Coroutine, Mapping
from typing import Any, cast

from penstock.errors import SandboxUnavailable, Unavailable
from penstock.models.gate import Outage
from penstock.record.notes import about_text
from penstock.sandbox import Limits, Tier, run_code, verdict
from penstock.settings import Settings
from penstock.steps import Work

#: Scripts at once in a worker: together they may take this many times the memory of one.
AT_ONCE = 4
OUTPUT_BYTES, DISK_MB = 200_000, 16
#: Characters of an output that travel with the event. It is a prompt of the next agents too.
QUOTED_CHARS = 4_000
#: Whether it isolates, likewise.
_outages: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Outage] = weakref.WeakKeyDictionary()
_FENCE = re.compile(r"\s*```[^\n`]*\n(.*?)(?:\n```\s*)?", re.DOTALL)

#: Each event loop has places of its own.
_places: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
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
        return await _patiently(judge(code, stdin, expected, limits, cast(Tier, settings.sandbox)))

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


def outage_here() -> Outage:
    """Whether the sandbox works, as far as this event loop's steps have seen."""
    return _outages.setdefault(asyncio.get_running_loop(), Outage("The sandbox"))


async def _patiently(judging: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """The verdict, once the sandbox isolates: until then the stage pauses, as it does for a model
    that is away. The event is not to blame, and what it cost so far is not lost."""
    outage = outage_here()
    try:
        await outage.passage()
        found = await judging
    except asyncio.CancelledError:
        outage.left()
        raise
    except (SandboxUnavailable, Unavailable) as exc:
        error = exc if isinstance(exc, Unavailable) else Unavailable(exc.message)
        error.counts = not outage.failed(error) and error is exc
        raise error from exc
    except Exception:
        outage.succeeded()  # whatever that is, it is not the sandbox: others have their turn
        raise
    finally:
        judging.close()
    outage.succeeded()
    return found


def _lesson(found: Mapping[str, Any]) -> str:
    """What a failure teaches: its cause, and the last line of the error, which says most."""
    last = str(found["error"]).rstrip().rpartition("\n")[2]
    return ": ".join(text for text in (found["cause"], found["detail"], last) if text)


async def judge(
    code: str, stdin: str, expected: str | None, limits: Limits, tier: Tier = "native"
) -> dict[str, Any]:
    """The verdict on `code`, as JSON, every text of it capped. Waits for a place among `AT_ONCE`.

    Raises `SandboxUnavailable` where nothing can be isolated, `Unavailable` when a process could
    not be started now.
    """
    if not code.strip():
        return _verdict("FAIL", "no code", "there is no program to run")
    places = _places.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE))
    async with places:
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
