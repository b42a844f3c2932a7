"""The experimental Kafka path of the program itself: a worker, killed, and a client."""

import json
import pathlib
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.contract.brokers import MOCK, PARTITIONS, Broker
from tests.programs import Worker, environment, penstock, wait_until, worker

STEPS = """
import asyncio, os, pathlib
from penstock.steps import Work, step

FOLDER = pathlib.Path(os.environ["NOTES"])

def note(line: str) -> str:
    with (FOLDER / "calls").open("a") as file:
        file.write(line + "\\n")
    return line

async def hold() -> str:
    (FOLDER / "holding").touch()
    while not (FOLDER / "go").exists():
        await asyncio.sleep(0.01)
    return "went on"

@step("quick")
async def quick(work: Work) -> str:
    return await work.call("call", note, "quick")

@step("slow")
async def slow(work: Work) -> str:
    first = await work.call("first", note, "slow")
    if os.environ.get("MOOD") == "bad":
        raise ValueError("not today")
    return first + " " + await work.call("second", hold)
"""


def make_project(folder: pathlib.Path, topic: str) -> pathlib.Path:
    """A pipeline on topics of its own: a quick step, and a slow one of two calls."""
    for name in ("agents", "topics", "steps"):
        (folder / name).mkdir(parents=True)
    names = [f"{topic}-{n}" for n in range(3)]
    chain = {
        "pipeline": "held",
        "topics": dict.fromkeys(names, "a topic"),
        "stages": [
            {"reads": names[0], "step": "quick", "writes": names[1]},
            {"reads": names[1], "step": "slow", "writes": names[2]},
        ],
    }
    (folder / "topics" / "held.yaml").write_text(json.dumps(chain))  # JSON is YAML
    (folder / "steps" / "work.py").write_text(STEPS)
    return folder


@pytest.fixture
def env(broker: Broker, topic: str, tmp_path: pathlib.Path, group: str) -> dict[str, str]:
    """The environment of the project's programs."""
    if broker.embedded:
        pytest.skip("tests/acceptance and tests/chaos do this, and much more, on the embedded one")
    env = environment(
        tmp_path,
        PENSTOCK_BROKER=broker.url,
        PENSTOCK_PROJECT=str(make_project(tmp_path / "project", topic)),
        PENSTOCK_APP_ID=group,
        PENSTOCK_PARTITIONS=str(PARTITIONS),
        PENSTOCK_WORKER_ID="the-one",  # the next worker takes the place of a killed one at once
        NOTES=str(tmp_path),
    )
    if broker.name == MOCK:
        env["TOPIC_ALLOW_DECLARE"] = "0"  # Faust's own setting: the mock cannot create topics
    return env


def begun(env: dict[str, str]) -> str:
    """The trace id of a new run."""
    sent = penstock("submit", "held", "hello", env=env)
    assert sent.returncode == 0, sent.stderr
    return sent.stdout.strip()


def assert_is_done(trace_id: str, topic: str, env: dict[str, str]) -> None:
    traced = penstock("trace", trace_id, "--json", env=env)
    run = json.loads(traced.stdout)
    assert run["state"] == "done", run
    assert [event["topic"] for event in run["events"]] == [f"{topic}-{n}" for n in range(3)]
    assert run["events"][-1]["parts"][f"{topic}-2"] == "slow went on"


def test_a_run_on_kafka_goes_to_its_end_and_can_be_read(
    env: dict[str, str], tmp_path: pathlib.Path, topic: str
) -> None:
    (tmp_path / "go").touch()
    with worker(env, tmp_path) as running:
        trace_id = begun(env)
        running.wait_for(f"run {trace_id}: {topic}-1 -> {topic}-2")
        assert_is_done(trace_id, topic, env)
        assert running.stop() == 0
    assert "Traceback" not in running.text()


@pytest.mark.timeout(120)
def test_a_run_on_kafka_that_is_cancelled_is_not_taken_up_again(
    env: dict[str, str], tmp_path: pathlib.Path, topic: str
) -> None:
    with worker(env, tmp_path) as running:
        trace_id = begun(env)
        wait_until((tmp_path / "holding").exists, "the second call")
        cancelled = penstock("cancel", trace_id, env=env)
        assert f"run {trace_id} is cancelled" in cancelled.stdout, cancelled.stderr
        running.wait_for(f"run {trace_id}: cancelled, 1 events in flight")
        assert running.stop() == 0
    (tmp_path / "go").touch()
    with worker(env, tmp_path) as running:
        again = begun(env)
        running.wait_for(f"run {again}: {topic}-1 -> {topic}-2")
        traced = json.loads(penstock("trace", trace_id, "--json", env=env).stdout)
        assert traced["state"] == "cancelled" and len(traced["events"]) == 2
        assert running.stop() == 0


@pytest.mark.timeout(120)
def test_a_dead_letter_on_kafka_is_replayed_and_pays_for_nothing_again(
    env: dict[str, str], tmp_path: pathlib.Path, topic: str
) -> None:
    env |= {"PENSTOCK_ATTEMPTS": "1", "MOOD": "bad"}
    with worker(env, tmp_path) as running:
        trace_id = begun(env)
        running.wait_for("ends as a dead letter")
        assert running.stop() == 0
    listed = penstock("dead-letters", "--json", env=env)
    dead_letter = json.loads(listed.stdout)
    assert dead_letter["trace_id"] == trace_id and dead_letter["cause"] == "StepFailed"

    (tmp_path / "go").touch()
    sent = penstock("dead-letters", "replay", dead_letter["id"], env=env)
    assert sent.returncode == 0, sent.stderr
    with worker(env | {"MOOD": "good"}, tmp_path) as running:
        running.wait_for(f"run {trace_id}: {topic}-1 -> {topic}-2")
        assert_is_done(trace_id, topic, env)
        assert running.stop() == 0
    assert (tmp_path / "calls").read_text().split() == ["quick", "slow"]
    assert penstock("dead-letters", "--json", env=env).stdout == ""


@pytest.mark.timeout(120)
def test_a_run_on_kafka_goes_on_after_kill_9_and_makes_no_recorded_call_again(
    broker: Broker, env: dict[str, str], tmp_path: pathlib.Path, topic: str
) -> None:
    if broker.name == MOCK:
        pytest.skip("the mock cluster has one member a group, and keeps a killed one's place")
    with worker(env, tmp_path) as running:
        trace_id = begun(env)
        wait_until((tmp_path / "holding").exists, "the second call")
        running.kill()
    (tmp_path / "go").touch()
    with worker(env, tmp_path) as running:
        running.wait_for(f"run {trace_id}: {topic}-1 -> {topic}-2")
        assert_is_done(trace_id, topic, env)
        assert running.stop() == 0
    assert (tmp_path / "calls").read_text().split() == ["quick", "slow"]


@pytest.fixture
def deaf_server() -> Iterator[tuple[int, list[object]]]:
    """A port that hangs up on whoever calls, and its callers so far."""
    calls: list[object] = []

    def hang_up() -> None:
        while True:
            try:
                connection, caller = server.accept()
            except OSError:
                return
            connection.close()
            calls.append(caller)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        yield server.getsockname()[1], calls
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_a_worker_waits_for_a_kafka_that_does_not_answer_and_says_so_once(
    deaf_server: tuple[int, list[object]], tmp_path: pathlib.Path
) -> None:
    port, calls = deaf_server
    env = environment(
        tmp_path,
        PENSTOCK_BROKER=f"kafka://127.0.0.1:{port}",
        PENSTOCK_PROJECT=str(make_project(tmp_path / "project", "held")),
        NOTES=str(tmp_path),
    )
    running = Worker(env, tmp_path)
    try:
        running.wait_for(f"Kafka at 127.0.0.1:{port} does not answer")
        wait_until(lambda: len(calls) >= 3, "a third try")
        assert running.process.poll() is None
        assert running.stop() == 0
    finally:
        running.kill()
    assert "Traceback" not in running.text()
    assert running.text().count("does not answer") == 1
