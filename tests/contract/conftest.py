"""The fixture `broker`: each test of the contract runs on every broker that is there."""

import asyncio
import importlib.util
import inspect
import logging
import pathlib
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

from tests.contract.brokers import KAFKA, MOCK, SQLITE, Broker, kafka_broker, make_topics
from tests.missing import skip_without
from tests.programs import ROOT


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
        reason = "The mock cluster is in the confluent-kafka wheel: pip install confluent-kafka"
        skip_without(reason)
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
    if request.param == KAFKA:
        return kafka_broker(request.getfixturevalue("kafka"), tmp_path)
    address = request.getfixturevalue("mock_kafka")
    # The mock cluster knows no CreateTopics; it makes a topic when somebody asks for it.
    return kafka_broker(address, tmp_path, MOCK, session_s=2.0, topic_allow_declare=False)


@pytest.fixture
def topic(broker: Broker) -> str:
    """A topic that nobody else has, and a second one that ends in -2: the mock cluster and a real
    Kafka outlive a test. A real one makes no topic because somebody asks for it."""
    name = f"contract-{uuid.uuid4().hex}"
    if broker.name == KAFKA:
        asyncio.run(make_topics(broker, name, f"{name}-2"))
    return name


@pytest.fixture
def group() -> str:
    return f"group-{uuid.uuid4().hex}"


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """Faust's and aiokafka's word on every assignment is not what a failed test has to say."""
    for name in ("faust", "mode", "aiokafka"):
        logging.getLogger(name).setLevel(logging.ERROR)
