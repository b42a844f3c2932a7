"""Stress: many tasks at once on the mesh, by a worker that lives or is killed."""

import contextlib
import csv
import json
import os
import pathlib
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.homes import TRACEBACK, Home, Screen
from tests.programs import Process, Program, wait_until


def rows(home: Home) -> list[str]:
    """The runs in the history."""
    with (home.data / "ai_history.csv").open(newline="", encoding="utf-8") as lines:
        return [row["trace_id"] for row in csv.DictReader(lines)]


def workers_of(process: Process) -> list[int]:
    """The workers that it has started. A child may just have been forked, or run something else."""
    found = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    workers = []
    for pid in found.split():
        with contextlib.suppress(OSError):
            if b"\0worker\0" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                workers.append(int(pid))
    return workers


@contextlib.contextmanager
def ended(program: Program) -> Iterator[None]:
    """Afterwards it is gone, and so are its workers."""
    try:
        yield
    finally:
        if program.process.poll() is None:
            workers = workers_of(program.process)
            program.process.kill()  # first, as it would begin another
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
            program.finish()


def is_well(found: dict[str, Any], tasks: int) -> None:
    assert (found["tasks"], found["finished"]) == (tasks, tasks)
    assert (found["lost"], found["repeated"], found["dead_letters"]) == (0, 0, 0)
    assert found["passed"] + found["failed"] == tasks
    assert found["highest_lag"] > 10
    # Held back first, and let go in the end.
    assert found["states"][0] == "THROTTLED" and found["states"][-1] == "ACTIVE"


@pytest.mark.timeout(120)
def test_fifty_tasks_at_once_hold_the_producer_back_and_none_is_lost(home: Home) -> None:
    done = home.start("stress", "50").finish(110)
    shown = Screen(done.returncode, done.stdout, done.stderr).ended()
    lags = [int(lag) for lag in re.findall(r" s  lag +(\d+) ", shown.err)]
    assert max(lags) > 10 and lags[-1] <= 3
    assert "CancelledError" not in shown.err
    assert "🛑 THROTTLED" in shown.err and "▶ ACTIVE" in shown.err
    # The governor of the worker said so, too: there was a producer to hold back.
    assert "🛑 LAG TOO HIGH. Throttling... mesh:" in shown.err
    assert "▶ Lag is down. mesh goes on:" in shown.err
    figures = dict(re.findall(r"│ (.+?) +│ +(.+?) │", shown.out))
    assert (figures["tasks"], figures["finished"]) == ("50", "50")
    assert (figures["lost"], figures["repeated"], figures["dead letters"]) == ("0", "0", "0")
    assert int(figures["highest lag"]) > 10 and int(figures["sent back to be mended"]) > 0
    written = rows(home)
    assert len(written) >= 50 and len(set(written)) == len(written)


@pytest.mark.timeout(240)
def test_a_worker_that_is_killed_under_stress_is_followed_by_another(
    home: Home, broker: dict[str, str]
) -> None:
    program = home.start("stress", "40", "--json", **broker)
    with ended(program):
        (worker,) = wait_until(lambda: workers_of(program.process), "a worker")
        wait_until(lambda: (home.data / "ai_history.csv").exists(), "the first row")
        os.kill(worker, signal.SIGKILL)
        done = program.finish(200)
    assert done.returncode == 0 and TRACEBACK not in done.stderr, done.stderr
    assert "The worker has ended (-9); another goes on." in done.stderr
    is_well(json.loads(done.stdout), 40)
    written = rows(home)
    assert len(set(written)) == len(written) >= 40


@pytest.mark.timeout(120)
def test_a_worker_that_is_there_does_the_work_also_over_a_kill(home: Home) -> None:
    with home.worker(PENSTOCK_START="mesh") as worker:
        program = home.start("stress", "40", "--json")
        with ended(program):
            wait_until(lambda: (home.data / "ai_history.csv").exists(), "the first row")
            worker.kill()
            with home.worker(PENSTOCK_START="mesh"):
                done = program.finish(100)
    assert done.returncode == 0 and TRACEBACK not in done.stderr, done.stderr
    assert "by the worker that is running" in done.stderr
    is_well(json.loads(done.stdout), 40)


def test_stress_says_what_it_needs(home: Home, tmp_path: pathlib.Path) -> None:
    project = tmp_path / "project"
    (project / "topics").mkdir(parents=True)
    (project / "topics" / "mesh.yaml").write_text(
        "pipeline: mesh\ntopics: {a: A}\nstages: [{reads: a, step: present}]\n"
    )
    home.env["PENSTOCK_PROJECT"] = str(project)
    assert "stress needs 'ai_topic' as an entry, and a governor" in home.fails("stress")
    assert "0 is not in the range" in home.show("stress", "0").ended(2).err
