"""Fixtures over the servers, for `pytest_plugins` in the topmost conftest."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.servers import QdrantServer, ScriptedServer, scripted_server
from tests.servers.kafka import KafkaMissing, KafkaServer, kafka_server
from tests.servers.llama import EngineMissing, LlamaServer, llama_server


@pytest.fixture(scope="package")
def scripted_process() -> Iterator[ScriptedServer]:
    with scripted_server() as server:
        yield server


@pytest.fixture
def scripted(scripted_process: ScriptedServer) -> ScriptedServer:
    """A scripted server without delay, as good as new: one process serves all tests."""
    scripted_process.reset()
    return scripted_process


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Kafka: PENSTOCK_TEST_KAFKA, or one of our own for all tests.

    Without its jars or Java a test is skipped on a laptop, and fails where CI is set.
    """
    if address := os.environ.get("PENSTOCK_TEST_KAFKA"):
        yield address
        return
    with kafka_or_skip(tmp_path_factory.mktemp("kafka")) as server:
        yield server.address


@pytest.fixture
def kafka_to_kill(tmp_path: Path) -> Iterator[KafkaServer]:
    """A real Kafka of the test's own, so no other test misses it."""
    with kafka_or_skip(tmp_path / "kafka") as server:
        yield server


@contextmanager
def kafka_or_skip(folder: Path, **options: Any) -> Iterator[KafkaServer]:
    """`kafka_server`; without its jars or Java a test is skipped on a laptop, and fails where CI is
    set."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(kafka_server(folder, **options))
        except KafkaMissing as missing:
            if os.environ.get("CI"):
                raise pytest.fail.Exception(str(missing), pytrace=False) from None
            pytest.skip(str(missing))
        yield server


@pytest.fixture(scope="module")
def qdrant_client() -> None:
    """The embedded Qdrant can be had. Without it a test is skipped on a laptop, and fails where CI
    is set."""
    if importlib.util.find_spec("qdrant_client") is None:
        reason = "embedded Qdrant is in its client's wheel: pip install qdrant-client"
        if os.environ.get("CI"):
            raise pytest.fail.Exception(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture
def qdrant_server(qdrant_client: None, tmp_path: Path) -> Iterator[QdrantServer]:
    """A Qdrant that has not been started, over a folder of its own."""
    server = QdrantServer(tmp_path / "qdrant")
    yield server
    server.stop()


@pytest.fixture(scope="package")
def llama() -> Iterator[LlamaServer]:
    """A real engine with a tiny model, one for all tests.

    Without the engine a test is skipped on a laptop, and fails where CI is set.
    """
    with ExitStack() as stack:
        try:
            server = stack.enter_context(llama_server())
        except EngineMissing as missing:
            if os.environ.get("CI"):
                raise pytest.fail.Exception(str(missing), pytrace=False) from None
            pytest.skip(str(missing))
        yield server
