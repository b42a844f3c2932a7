"""The steps `sandbox` and `persist`, given work as a stage gives it."""

import asyncio
import csv
import pathlib
from typing import Any

import pytest

from penstock.conditions import DOWN, UP
from penstock.errors import Unavailable
from penstock.models.gate import Gates
from penstock.models.offline import coder
from penstock.models.offline.tasks import tasks
from penstock.project.cards import read_card
from penstock.project.project import read_project
from penstock.record.events import Event, first_event
from penstock.sandbox import Limits, run_code
from penstock.settings import Settings
from penstock.signals import HistoryMended, Signal, Signals
from penstock.steps import persist as persisting
from penstock.steps import sandbox as sandboxing
from penstock.steps.history import COLUMNS, HEADER
from penstock.steps.persist import row_of
from penstock.steps.sandbox import AT_ONCE, QUOTED_CHARS, judge, sandbox
from tests.programs import ROOT
from tests.unit.test_work import Notebook, work_on

TASK = {"title": "Echo", "task": "Print it.", "input": "a\n", "expected": "a\n"}


def run_step(
    parts: dict[str, Any], notebook: Notebook | None = None, settings: Settings | None = None
) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        event = first_event("mesh", parts, trace_id="a-run")
        return await sandbox(work_on(event, notebook or Notebook(), settings=settings))

    return asyncio.run(main())


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(
    ("code", "verdict", "cause"),
    [
        ("print(input())", "PASS", ""),
        ("```python\nprint(input())\n```\n", "PASS", ""),
        ("print('b')", "FAIL", "output differs"),
        ("1 / 0", "FAIL", "exit code"),
        ("print('PASS'); import os; os._exit(0)", "FAIL", "output differs"),
        ("  \n", "FAIL", "no code"),
    ],
)
def test_the_verdict_on_code_is_json(code: str, verdict: str, cause: str) -> None:
    made = run_step({"ai_topic": TASK, "ai_solutions": {"code": code}})
    assert (made["verdict"], made["cause"]) == (verdict, cause)
    # With the task's words it can go back to its topic as a fix request.
    assert {name: made[name] for name in TASK} == TASK
    if cause == "exit code":
        assert "ZeroDivisionError" in made["error"] and "ZeroDivisionError" in made["detail"]


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("solution", [None, {}, {"code": None}, {"code": 7}, [], 3, "print(1)"])
@pytest.mark.parametrize("task", [None, "Say one.", {}, {"input": {"a": 1}}, {"input": None}])
def test_any_parts_have_a_verdict(task: Any, solution: Any) -> None:
    made = run_step({"ai_topic": task, "ai_solutions": solution})
    assert made["verdict"] in ("PASS", "FAIL")
    if solution == "print(1)":
        assert (made["verdict"], made["output"]) == ("PASS", "1\n")


@pytest.mark.usefixtures("native")
def test_long_texts_are_cut_the_error_at_its_beginning() -> None:
    code = f"import sys\nprint('x' * 50_000)\nsys.stderr.write('y' * 50_000 + 'the end')\n{'1 / 0'}"
    made = run_step({"ai_topic": TASK, "ai_solutions": {"code": code}})
    assert len(made["output"]) < QUOTED_CHARS + 50 and "50,001 characters" in made["output"]
    assert len(made["error"]) < QUOTED_CHARS + 50
    assert made["error"].rstrip().endswith("ZeroDivisionError: division by zero")


@pytest.mark.usefixtures("native")
def test_a_recorded_verdict_is_not_made_again() -> None:
    notebook = Notebook()
    clock = "import time\nprint(time.monotonic_ns())"
    parts = {"ai_topic": "What time is it?", "ai_solutions": {"code": clock}}
    first = run_step(parts, notebook)
    assert len(notebook.entries) == 1
    assert run_step(parts, notebook) == first
    assert run_step(parts)["output"] != first["output"]


@pytest.mark.usefixtures("native")
def test_only_so_many_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most = 0, 0

    async def counted(*args: Any) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return await run_code(*args)
        finally:
            running -= 1

    monkeypatch.setattr(sandboxing, "run_code", counted)

    async def main() -> list[dict[str, Any]]:
        return await asyncio.gather(
            *(judge(f"print({n})", "", f"{n}", Limits()) for n in range(3 * AT_ONCE))
        )

    assert {one["verdict"] for one in asyncio.run(main())} == {"PASS"}
    assert most == AT_ONCE


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(
    ("settings", "code", "cause"),
    [
        ({"PENSTOCK_SANDBOX_S": "0.5"}, "while True: pass", "timeout"),
        ({"PENSTOCK_SANDBOX_MB": "64"}, "x = bytearray(100_000_000)", "memory"),
    ],
)
def test_a_limit_is_a_setting_and_the_cause(
    settings: dict[str, str], code: str, cause: str
) -> None:
    parts = {"ai_topic": TASK, "ai_solutions": {"code": code}}
    made = run_step(parts, settings=Settings.read(settings))
    assert (made["verdict"], made["cause"]) == ("FAIL", cause)


def test_the_steps_are_there_for_every_chain() -> None:
    steps = read_project(ROOT).registry.steps
    assert {"sandbox", "persist", "present"} <= steps.keys()


def test_a_row_has_what_the_run_made(tmp_path: pathlib.Path) -> None:
    task = dict(tasks()["Sum of numbers: even"].described("a"))
    parts: dict[str, Any] = {"ai_topic": task}
    parts["ai_solutions"] = coder.write("ai_solutions", parts, "", "a")
    parts["ai_verified_solutions"] = {"verdict": "PASS", "cause": "", "seconds": 0.02}
    parts["ai_reviews"] = coder.write("ai_reviews", parts, "", "a")
    read_card(ROOT / "agents" / "reviewer.md").check_output(parts["ai_reviews"])
    found = dict(zip(COLUMNS, row_of(event_of(parts)), strict=True))
    assert found["trace_id"] == "a-run" and found["title"] == "Sum of numbers: even"
    assert found["code"] == parts["ai_solutions"]["code"] and found["verdict"] == "PASS"
    assert found["score"] == str(parts["ai_reviews"]["score"]) and found["seconds"] == "0.02"
    assert found["findings"].splitlines() == parts["ai_reviews"]["findings"]
    for nasty in ("text", None, 7, ["a"], {"title": [1], "verdict": {"a": 1}}):
        row = row_of(event_of(dict.fromkeys(parts, nasty)))
        assert all(isinstance(text, str) for text in row)


def event_of(parts: dict[str, Any]) -> Event:
    return first_event("mesh", parts, trace_id="a-run")


def test_a_file_that_cannot_be_written_costs_no_attempt(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "data" / persisting.NAME
    path.mkdir(parents=True)

    async def main() -> None:
        settings = Settings(data=tmp_path / "data")
        work = work_on(event_of({"ai_topic": TASK}), Notebook(), settings=settings)
        with pytest.raises(Unavailable, match="cannot be written") as caught:
            await persisting.persist(work)
        assert not caught.value.counts
        path.rmdir()
        await persisting.persist(work)

    asyncio.run(main())
    with path.open(newline="") as lines:
        assert [row["task"] for row in csv.DictReader(lines)] == ["Print it."]


def test_a_row_that_a_crash_has_cut_is_said_once_when_it_is_out_of_the_way(
    tmp_path: pathlib.Path,
) -> None:
    file = tmp_path / "data" / persisting.NAME
    file.parent.mkdir()
    file.write_bytes(HEADER + b'b,"half a row')
    said: list[Signal] = []

    async def main() -> None:
        for trace_id in ("a", "b"):
            settings = Settings(data=tmp_path / "data")
            event = first_event("mesh", {"ai_topic": TASK}, trace_id)
            work = work_on(event, Notebook(), settings=settings)
            work.signals.on(HistoryMended, said.append)
            await persisting.persist(work)

    asyncio.run(main())
    assert said == [HistoryMended(str(file), 13, f"{file.name}.torn")]


@pytest.mark.usefixtures("native")
def test_a_disk_that_is_full_pauses_the_stage_and_nobody_keeps_the_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors: list[Exception] = [OSError(28, "No space left on device")] * 3
    errors.append(RuntimeError("a defect"))

    async def full(*args: Any) -> Any:
        if errors:
            raise errors.pop(0)
        return await run_code(*args)

    monkeypatch.setattr(sandboxing, "run_code", full)
    # The prober of an outage asks at once.
    monkeypatch.setattr("penstock.models.gate.FIRST_PROBE_S", 0.0)

    gates = Gates(Signals())

    async def main() -> None:
        async def run(trace: str) -> dict[str, Any]:
            event = first_event("mesh", {"ai_topic": TASK, "ai_solutions": "print('a')"}, trace)
            return await sandbox(work_on(event, Notebook(), gates=gates))

        for name in "abc":
            with pytest.raises(Unavailable, match="No space left on device"):
                await run(name)
        assert [condition.state for condition in gates.conditions] == [DOWN]
        with pytest.raises(RuntimeError, match="a defect"):
            await run("d")
        made = await asyncio.gather(*(run(name) for name in "efg"))
        assert {one["verdict"] for one in made} == {"PASS"}
        assert [condition.state for condition in gates.conditions] == [UP]

    asyncio.run(main())
