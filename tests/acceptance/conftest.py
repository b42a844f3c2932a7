"""Fixtures of the acceptance tests: a place of one's own, on either broker."""

import pathlib
import uuid

import pytest

from tests.acceptance.homes import Home
from tests.servers.kafka import KafkaServer


@pytest.fixture
def home(tmp_path: pathlib.Path) -> Home:
    """Nothing is there yet, and nothing is seeded."""
    return Home(tmp_path, PENSTOCK_SEED="0")


@pytest.fixture(params=["sqlite", "kafka"])
def broker(request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings of each broker, on which nothing is yet."""
    if request.param == "sqlite":
        return {}
    kafka: KafkaServer = request.getfixturevalue("kafka_to_kill")
    return {
        "PENSTOCK_BROKER": f"kafka://{kafka.address}",
        "PENSTOCK_APP_ID": f"penstock-{uuid.uuid4().hex}",
        "PENSTOCK_WORKER_ID": "the-one",  # the next worker takes the place of a killed one at once
    }
