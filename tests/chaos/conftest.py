"""Fixtures of the chaos suite."""

import pathlib
from collections.abc import Iterator

import pytest

from tests.chaos import table
from tests.chaos.clusters import Cluster
from tests.chaos.trials import DELAY_S, JITTER, SEED, Trial
from tests.chaos.verdicts import Verdict
from tests.servers import ScriptedServer, scripted_server
from tests.servers.kafka import KafkaServer


@pytest.fixture(scope="session")
def server_process() -> Iterator[ScriptedServer]:
    with scripted_server(delay_s=DELAY_S, jitter=JITTER) as running:
        yield running


@pytest.fixture
def server(server_process: ScriptedServer) -> ScriptedServer:
    """A model server that answers in 21-49 ms, and has counted nothing yet."""
    server_process.reset()
    return server_process


@pytest.fixture
def trial(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path, server: ScriptedServer
) -> Iterator[Trial]:
    """A trial of its own, with no process left afterwards. `settings` may be a mark's keywords."""
    mark = request.node.get_closest_marker("settings")
    trial = Trial(request.node.name, tmp_path, server, **(mark.kwargs if mark else {}))
    print(f"PENSTOCK_TEST_RANDOM={SEED}")
    try:
        yield trial
    finally:
        trial.close()


@pytest.fixture
def kafka_trial(
    request: pytest.FixtureRequest,
    tmp_path: pathlib.Path,
    server: ScriptedServer,
    kafka_to_kill: KafkaServer,
) -> Iterator[Cluster]:
    """A trial on a Kafka that holds nothing, with no process left afterwards."""
    mark = request.node.get_closest_marker("settings")
    url = f"kafka://{kafka_to_kill.address}"
    trial = Cluster(request.node.name, tmp_path, server, url, **(mark.kwargs if mark else {}))
    print(f"PENSTOCK_TEST_RANDOM={SEED}")
    try:
        yield trial
    finally:
        trial.close()


class Judged(list[Verdict]):
    """Verdicts, of which the last stands in the table at the end."""

    def __init__(self, item: pytest.Item) -> None:
        self.item = item

    def append(self, verdict: Verdict) -> None:
        super().append(verdict)
        self.item.user_properties.append((table.ROW, verdict.row()))


@pytest.fixture
def judged(request: pytest.FixtureRequest) -> Judged:
    return Judged(request.node)
