"""A Kafka that nobody has used yet: the first commands on it."""

import pathlib

import pytest

from tests.programs import Worker, environment, penstock
from tests.servers.fixtures import kafka_or_skip

pytestmark = pytest.mark.timeout(120)


def test_the_first_command_on_a_new_kafka_tells_a_story(tmp_path: pathlib.Path) -> None:
    with kafka_or_skip(tmp_path / "kafka") as server:
        env = environment(tmp_path, PENSTOCK_BROKER=f"kafka://{server.address}")
        told = penstock("story", "A shy volcano", env=env)
        assert told.returncode == 0 and "Final Story Output" in told.stdout, told.stderr


def test_runs_that_are_submitted_before_any_worker_wait_for_one(tmp_path: pathlib.Path) -> None:
    with kafka_or_skip(tmp_path / "kafka") as server:
        env = environment(tmp_path, PENSTOCK_BROKER=f"kafka://{server.address}", PENSTOCK_SEED="0")
        sent = penstock("submit", "story", "--premise", "A shy volcano", env=env)
        assert sent.returncode == 0 and "No worker is running" in sent.stderr, sent.stderr
        worker = Worker(env, tmp_path)
        try:
            worker.wait_for(f"Final Story Output for Trace ID {sent.stdout.strip()}")
            assert worker.stop() == 0
        finally:
            worker.kill()
