"""The offline coder's programs, run: the right ones pass, the wrong ones do not."""

import asyncio
import contextlib
import io
import sys

import pytest

from penstock.models.offline import coder
from penstock.models.offline.tasks import Task, tasks
from penstock.sandbox import Limits, run_code, verdict

#: They never come to an end, so they are only run where something ends them.
ENDLESS = {"Binary search: how many are greater"}
#: A task of each kind whose first program is wrong.
FIRST_SLIPS = {
    task.kind: title for title, task in reversed(tasks().items()) if task.lesson
}.values()


def run_here(code: str, stdin: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What our own program prints; an exception is text too."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
    with contextlib.redirect_stdout(out):
        try:
            exec(compile(code, "program", "exec"), {"__name__": "__main__"})
        except (ValueError, IndexError, TypeError) as exc:
            print(f"{type(exc).__name__}: {exc}")
    return out.getvalue().rstrip()


@pytest.mark.parametrize("task", tasks().values(), ids=list(tasks()))
def test_every_right_program_passes_and_every_wrong_one_fails(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(task.examples) >= 3
    for given, expected in task.examples:
        assert expected.strip()
        assert run_here(task.right, given, monkeypatch) == expected.rstrip()
        if task.lesson and task.title not in ENDLESS:
            assert run_here(task.first, given, monkeypatch) != expected.rstrip()


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("title", FIRST_SLIPS)
def test_the_first_program_and_the_mended_one_are_judged_in_the_sandbox(title: str) -> None:
    task: dict[str, object] = dict(tasks()[title].described("a"))

    async def judged(failure: dict[str, object]) -> tuple[str, str]:
        parts: dict[str, object] = {"ai_topic": task | failure}
        code = str(coder.write("ai_solutions", parts, "", "a")["code"])
        # The endless one has been found out soon; a busy machine is slow to start any.
        limits = Limits(seconds=1 if task["title"] in ENDLESS and not failure else 20)
        found = verdict(await run_code(code, str(task["input"]), limits), str(task["expected"]))
        return found.result, found.cause

    async def both() -> None:
        result, cause = await judged({})
        assert result == "FAIL"
        assert cause == "timeout" or task["title"] not in ENDLESS
        assert await judged({"verdict": "FAIL", "cause": cause}) == ("PASS", "")

    asyncio.run(both())
