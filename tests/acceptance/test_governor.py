"""The governor: a timer begins nothing while the readers are behind, and then goes on."""

import pathlib

import pytest

from tests.acceptance.homes import Home
from tests.programs import wait_until

CHAIN = """
pipeline: ticks
topics: {tick: A tick, tock: What came of it, report: What the governor says}
stages:
  - {reads: tick, step: slow, writes: tock}
seed: {tick: tick}
every_s: 0.05
governor: {topic: tick, limit: 3}
telemetry: report
"""
STEPS = """
import asyncio, os, pathlib
from penstock.steps import Work, step

@step("slow")
async def slow(work: Work) -> str:
    while not pathlib.Path(os.environ["NOTES"], "go").exists():
        await asyncio.sleep(0.01)
    return "tock"
"""


@pytest.fixture
def governed(home: Home, tmp_path: pathlib.Path) -> Home:
    """A place where a timer runs twenty times a second, and nothing ends before there is `go`."""
    project = tmp_path / "project"
    for name in ("agents", "topics", "steps"):
        (project / name).mkdir(parents=True)
    (project / "topics" / "ticks.yaml").write_text(CHAIN)
    (project / "steps" / "ticks.py").write_text(STEPS)
    home.env |= {"PENSTOCK_PROJECT": str(project), "NOTES": str(tmp_path)}
    return home


def test_a_timer_is_throttled_by_the_lag_and_goes_on_when_it_is_down(
    governed: Home, tmp_path: pathlib.Path
) -> None:
    with governed.worker() as worker:
        worker.wait_for("🛑 LAG TOO HIGH. Throttling... ticks: 4 events of 'tick'")
        (row,) = governed.run("lag", "--json").json()
        assert (row["topic"], row["lag"]) == ("tick", 4)
        assert row["governor"]["state"] == "THROTTLED" and row["governor"]["limit"] == 3
        assert "🛑 THROTTLED (limit 3)" in governed.run("lag").out
        # What is in flight counts once, and nothing was begun beyond it.
        assert len(governed.begun("tick")) == 4

        (tmp_path / "go").touch()
        worker.wait_for("▶ Lag is down. ticks goes on:")
        wait_until(lambda: len(governed.begun("tick")) > 10, "runs to be begun again")
    reports = [event.parts["report"] for event in governed.begun("report")]
    assert [one["state"] for one in reports[:2]] == ["THROTTLED", "ACTIVE"]
    assert reports[0] == {
        "kind": "governor",
        "topic": "tick",
        "state": "THROTTLED",
        "lag": 4,
        "limit": 3,
    }
