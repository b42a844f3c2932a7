"""A worker whose group on Kafka does not take it, or does not answer while it joins."""

import pathlib
import time

import pytest

from tests.programs import Worker, environment, penstock
from tests.servers.fixtures import kafka_or_skip
from tests.servers.kafka import KafkaServer


@pytest.mark.timeout(120)
def test_a_session_that_kafka_does_not_allow_is_said_and_a_long_one_is_no_trouble(
    tmp_path: pathlib.Path,
) -> None:
    # Kafka's own least, which the other tests' servers have lowered.
    least = {"group.min.session.timeout.ms": "6000"}
    with kafka_or_skip(tmp_path / "kafka", extra=least) as server:
        settings = {"PENSTOCK_BROKER": f"kafka://{server.address}", "PENSTOCK_SEED": "0"}
        refused = Worker(environment(tmp_path, **settings, PENSTOCK_SESSION_S="2"), tmp_path)
        try:
            assert refused.process.wait(60) == 1
        finally:
            refused.kill()
        assert "Error: PENSTOCK_SESSION_S=2: Kafka does not allow it." in refused.text()
        assert "group.min.session.timeout.ms" in refused.text()
        assert "Traceback" not in refused.text()
        # Longer than Faust gives a request, which it would refuse by itself.
        patient = Worker(environment(tmp_path, **settings, PENSTOCK_SESSION_S="120"), tmp_path)
        try:
            patient.ready()
            assert patient.stop() == 0
        finally:
            patient.kill()


@pytest.mark.timeout(120)
def test_a_worker_whose_kafka_hangs_while_it_takes_its_partitions_goes_on_afterwards(
    kafka_to_kill: KafkaServer, tmp_path: pathlib.Path, group: str
) -> None:
    request_s = 5
    env = environment(
        tmp_path,
        PENSTOCK_BROKER=f"kafka://{kafka_to_kill.address}",
        PENSTOCK_APP_ID=group,
        PENSTOCK_SEED="0",
        PENSTOCK_SESSION_S="4",
        BROKER_REQUEST_TIMEOUT=str(request_s),  # Faust's own setting
    )
    started = Worker(env, tmp_path, command=("-m", "penstock", "worker", "-l", "debug"))
    try:
        started.wait_for("Seek stream partitions")
        kafka_to_kill.pause()
        time.sleep(request_s + 2)  # what it asks for now is answered too late
        kafka_to_kill.resume()
        started.ready()
        sent = penstock("submit", "story", "--premise", "A shy volcano", "--wait", env=env)
        assert sent.returncode == 0 and "Final Story Output" in sent.stdout, sent.stderr
        assert started.stop() == 0
    finally:
        started.kill()
    assert "Traceback" not in started.text()
