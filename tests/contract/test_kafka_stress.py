"""Stress on Kafka: the lag is the group's; a worker that is killed loses and repeats nothing."""

import csv
import json
import os
import pathlib
import signal
import subprocess

import pytest

from tests.acceptance.test_stress import ended, is_well, workers_of
from tests.programs import PENSTOCK, ROOT, environment, wait_until


@pytest.mark.timeout(240)
def test_tasks_at_once_on_kafka_also_over_a_kill(
    kafka: str, group: str, tmp_path: pathlib.Path
) -> None:
    project = tmp_path / "project"
    (project / "topics").mkdir(parents=True)
    (project / "agents").symlink_to(ROOT / "agents")
    (project / "topics" / "mesh.yaml").symlink_to(ROOT / "topics" / "mesh.yaml")
    env = environment(
        tmp_path,
        PENSTOCK_BROKER=f"kafka://{kafka}",
        PENSTOCK_PROJECT=str(project),
        PENSTOCK_APP_ID=group,
        PENSTOCK_WORKER_ID="the-one",  # the next worker takes the place of a killed one at once
    )
    history = tmp_path / "data" / "ai_history.csv"
    process = subprocess.Popen(
        [*PENSTOCK, "stress", "40", "--json"],
        env=env,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with ended(process):
        (worker,) = wait_until(lambda: workers_of(process), "a worker")
        wait_until(history.exists, "the first row")
        os.kill(worker, signal.SIGKILL)
        out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "The worker has ended (-9); another goes on." in err
    is_well(json.loads(out), 40)
    with history.open(newline="", encoding="utf-8") as lines:
        rows = [row["trace_id"] for row in csv.DictReader(lines)]
    assert len(set(rows)) == len(rows) >= 40
