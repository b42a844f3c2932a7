"""The fixture `broker`: each test of the contract runs on every broker that is there."""

import asyncio
import importlib.util
import inspect
import logging
import os
import pathlib
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.contract.brokers import KAFKA, MOCK, PARTITIONS, SQLITE, Broker
from tests.programs import ROOT
from tests.servers.fixtures import kafka

__all__ = ["kafka"]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is a coroutine function runs in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture(scope="session")
def mock_kafka() -> Iterator[str]:
    """The address of librdkafka's mock cluster, one for all tests."""
    if importlib.util.find_spec("confluent_kafka") is None:
        reason = "the mock cluster is in the confluent-kafka wheel: pip install confluent-kafka"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.contract.mock_kafka"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, "the mock cluster did not start"
        yield address
        process.stdin.close()


@pytest.fixture(params=[SQLITE, MOCK, KAFKA])
def broker(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Broker:
    """A broker that every test finds in the same state: no topic of this test's is there yet."""
    if request.param == SQLITE:
        return Broker(SQLITE, f"sqlite://{tmp_path / 'broker.db'}", tmp_path)
    settings: dict[str, Any] = {"producer_max_batch_size": 256 * 1024}
    if request.param == MOCK:
        address = request.getfixturevalue("mock_kafka")
        # The mock cluster knows no CreateTopics; it makes a topic when somebody asks for it.
        settings |= {"topic_allow_declare": False, "broker_session_timeout": 2.0}
    else:
        # How long a killed member's partitions stand still.
        address = request.getfixturevalue("kafka")
        settings |= {"broker_session_timeout": 3.0}
    settings["broker_heartbeat_interval"] = settings["broker_session_timeout"] / 4
    return Broker(request.param, f"kafka://{address}", tmp_path, settings)


@pytest.fixture
def topic(broker: Broker) -> str:
    """A topic that nobody else has, and a second one that ends in -2: the mock cluster and a real
    Kafka outlive a test. A real one makes no topic because somebody asks for it."""
    name = f"contract-{uuid.uuid4().hex}"
    if broker.name == KAFKA:
        asyncio.run(_make(broker, name))
    return name


async def _make(broker: Broker, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.url.removeprefix("kafka://"))
    await admin.start()
    await admin.create_topics([NewTopic(one, PARTITIONS, 1) for one in (name, f"{name}-2")])
    await admin.close()


@pytest.fixture
def group() -> str:
    return f"group-{uuid.uuid4().hex}"


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """Faust's and aiokafka's word on every assignment is not what a failed test has to say."""
    for name in ("faust", "mode", "aiokafka"):
        logging.getLogger(name).setLevel(logging.ERROR)
