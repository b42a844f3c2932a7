"""A chain of the coder, the sandbox, the reviewer and the history, by a real worker."""

import csv
import fcntl
import json
import pathlib
import shutil
from typing import Any

import pytest

from app.models import coder
from tests.acceptance.places import Place
from tests.programs import ROOT

CHAIN = """\
pipeline: bench
topics:
  ai_topic: A task
  ai_solutions: Code for it
  ai_telemetry: A first look
  ai_verified_solutions: What came of it
  ai_reviews: A review
stages:
  - {reads: ai_topic, agent: coder, writes: ai_solutions}
  - {reads: ai_solutions, agent: reviewer, task: glance, writes: ai_telemetry}
  - {reads: ai_solutions, step: sandbox, writes: ai_verified_solutions}
  - {reads: ai_verified_solutions, agent: reviewer, writes: ai_reviews}
  - {reads: ai_reviews, step: persist}
"""
RIGHT, WRONG = (coder.Task(coder.KINDS[1], number).described("a") for number in (0, 1))


@pytest.fixture
def bench(tmp_path: pathlib.Path) -> Place:
    project = tmp_path / "project"
    (project / "topics").mkdir(parents=True)
    (project / "topics" / "bench.yaml").write_text(CHAIN)
    shutil.copytree(ROOT / "agents", project / "agents")
    return Place(tmp_path / "place", PENSTOCK_PROJECT=str(project))


def submit(place: Place, *tasks: dict[str, str]) -> list[str]:
    lines = "".join(json.dumps({"ai_topic": task}) + "\n" for task in tasks)
    shown = place.run("submit", "bench", "--json", "--file", "-", stdin=lines)
    return [line["trace_id"] for line in shown.json_lines()]


def history(place: Place) -> dict[str, dict[str, Any]]:
    """The rows by their runs, each of which has one."""
    with (place.data / "ai_history.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert len({row["trace_id"] for row in rows}) == len(rows)
    return {row["trace_id"]: row for row in rows}


def test_code_is_written_run_reviewed_and_kept_as_a_row(bench: Place) -> None:
    with bench.worker():
        right, wrong = submit(bench, RIGHT, WRONG)
        runs = bench.wait_for(right, wrong)
    rows = history(bench)
    assert rows.keys() == {right, wrong}
    assert (rows[right]["title"], rows[right]["verdict"]) == (RIGHT["title"], "PASS")
    assert rows[right]["output"] == RIGHT["expected"]
    failed = rows[wrong]
    assert (failed["verdict"], failed["cause"]) == ("FAIL", "output differs")
    assert int(rows[right]["score"]) > int(failed["score"]) and failed["critique"]
    looks = [
        entry.event.parts["ai_telemetry"]
        for run in runs
        for entry in run.entries
        if "ai_telemetry" in entry.event.parts
    ]
    assert len(looks) == 2 and all(look.startswith("At first sight") for look in looks)


@pytest.mark.timeout(120)
def test_a_locked_history_keeps_runs_waiting_also_over_a_kill(bench: Place) -> None:
    file = bench.data / "ai_history.csv"
    file.parent.mkdir(parents=True)
    file.touch()
    with file.open("rb") as mine:
        fcntl.flock(mine, fcntl.LOCK_EX)
        with bench.worker() as worker:
            traces = submit(bench, RIGHT, WRONG)
            worker.wait_for("cannot be written: another program has locked it")
            worker.kill()
    with bench.worker() as worker:
        bench.wait_for(*traces)
        assert worker.stop() == 0
    assert history(bench).keys() == set(traces)
    assert bench.letters() == []


def test_a_history_of_somebody_elses_is_a_dead_letter_that_says_so(bench: Place) -> None:
    file = bench.data / "ai_history.csv"
    file.parent.mkdir(parents=True)
    file.write_text("name,price\nx,1\n")
    with bench.worker() as worker:
        (trace,) = submit(bench, RIGHT)
        worker.wait_for("ends as a dead letter")
        (letter,) = bench.letters()
        assert letter["trace_id"] == trace and "is not the history" in letter["message"]
        file.rename(file.with_suffix(".theirs"))
        bench.run("dead-letters", "replay", "--all")
        bench.wait_for(trace)
    assert history(bench).keys() == {trace}
