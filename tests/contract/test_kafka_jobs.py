"""The jobs queue on Kafka: names, turns and ends are what they are on the embedded broker."""

import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.client import Client
from penstock.jobs.status import JobStatus
from penstock.settings import Settings
from tests.programs import ROOT, environment, penstock, wait_until, worker
from tests.servers import ScriptedServer
from tests.servers.fixtures import scripted, scripted_process

__all__ = ["scripted", "scripted_process"]


def job(query: str, file: str) -> dict[str, Any]:
    return {"system_prompt": "Be brief.", "params": {"query": query, "output_file": file}}


@pytest.fixture
def env(kafka: str, scripted: ScriptedServer, tmp_path: pathlib.Path, group: str) -> dict[str, str]:
    """The jobs' project alone, one event at a time in each stage."""
    project = tmp_path / "project"
    for name in ("agents/clerk.md", "topics/jobs.yaml"):
        (project / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, project / name)
    return environment(
        tmp_path,
        PENSTOCK_BROKER=f"kafka://{kafka}",
        PENSTOCK_PROJECT=str(project),
        PENSTOCK_APP_ID=group,
        PENSTOCK_WORKER_ID="the-one",  # the next worker takes the place of a killed one at once
        PENSTOCK_CONCURRENCY="1",
        PENSTOCK_MODEL=f"{scripted.base_url}#scripted",
    )


@pytest.fixture
def client(env: dict[str, str]) -> Iterator[Client]:
    with Client(Settings.read(env)) as client:
        yield client


def outputs(tmp_path: pathlib.Path) -> list[str]:
    return sorted(file.name for file in (tmp_path / "data" / "outputs").iterdir())


def queries(server: ScriptedServer) -> list[str]:
    said = [call["request"]["messages"][-1]["content"] for call in server.calls()]
    return [text.removeprefix("# query\n\n") for text in said]


@pytest.mark.timeout(240)
def test_jobs_on_kafka_have_their_turns_their_names_and_their_ends(
    env: dict[str, str], client: Client, scripted: ScriptedServer, tmp_path: pathlib.Path
) -> None:
    lows = [client.push_job(f"low {n}", job(f"low {n}", f"low{n}.txt")) for n in range(4)]
    highs = [client.push_job(f"high {n}", job(f"high {n}", f"h{n}.txt"), "high") for n in range(4)]
    # The same once more, on either topic, and another one under a used name.
    client.push_job("low 0", job("low 0", "low0.txt"))
    client.push_job("high 0", job("high 0", "h0.txt"), "low")
    # Whichever high one is first gets no answer.
    scripted.script([{"fault": "timeout", "match": "high", "times": 1}])

    with worker(env, tmp_path) as running:
        wait_until(lambda: queries(scripted), "the call that gets no answer")
        running.kill()
    (first,) = queries(scripted)
    assert first.startswith("high")
    other = client.push_job("high 1", job("Another?", "another.txt"))
    with worker(env, tmp_path) as running:
        done: list[JobStatus] = [one.wait(120) for one in (*lows, *highs)]
        refused = other.wait(60)
        listed = penstock("jobs", "--json", env=env)
        assert running.stop() == 0

    assert {status.state for status in done} == {"done"}
    assert refused.state == "refused" and "taken by another job" in refused.error
    assert outputs(tmp_path) == [f"h{n}.txt" for n in range(4)] + [f"low{n}.txt" for n in range(4)]
    asked = queries(scripted)
    # One call was in flight at the kill; nothing else was asked twice.
    once = [f"{priority} {n}" for priority in ("high", "low") for n in range(4)]
    assert sorted(asked) == sorted([*once, first])
    assert {query.split()[0] for query in asked[:4]} == {"high"}, asked
    assert len(listed.stdout.splitlines()) == 8, listed
