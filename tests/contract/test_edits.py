"""Chains that are edited while events wait, on each of the two brokers."""

import pathlib
import uuid

import pytest

from penstock.broker.contract import Unread
from penstock.project.project import read_project
from tests.contract.brokers import KAFKA, SQLITE
from tests.contract.workers import House

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("kind", [SQLITE, KAFKA])
def test_a_worker_finds_what_waits_on_a_topic_that_was_renamed(
    kind: str, request: pytest.FixtureRequest, tmp_path: pathlib.Path
) -> None:
    url = f"kafka://{request.getfixturevalue('kafka')}" if kind == KAFKA else ""
    house = House(url, tmp_path)
    try:
        for _ in range(2):
            house.begin(str(uuid.uuid4()))
        (chain,) = (tmp_path / "topics").iterdir()
        chain.write_text(chain.read_text().replace(house.idea, f"{house.idea}-now"))
        house.project = read_project(tmp_path)
        house.start()
        waits = [Unread(house.idea, (house.teller,), 2)]
        house.wait(lambda: house.call(house.membership.unread()) == waits, "what waits")
        with house.client() as client:
            assert client.unread() == waits
            assert len(client.cancel_unread(house.idea)) == 2
            assert client.unread() == []
    finally:
        house.stop()
