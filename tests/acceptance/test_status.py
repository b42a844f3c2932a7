"""Status: what a worker needs, each as it is, from another process."""

import json
import pathlib
import re
import socket
from typing import Any

import pytest

from tests.acceptance.homes import Home
from tests.programs import ROOT, wait_until
from tests.servers import ScriptedServer, scripted_server

TASK = "ai_topic=Print the sum of two numbers."


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def states(home: Home) -> dict[str, Any]:
    """The worker's parts by their names."""
    shown = home.show("status", "--json")
    assert shown.code in (0, 1), shown.text
    workers = shown.json()
    return {part["what"]: part["state"] for worker in workers for part in worker["parts"]}


@pytest.mark.timeout(120)
def test_each_thing_that_is_away_is_said_with_why_and_since_when(home: Home) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    home.env |= {"QDRANT_URL": nobody, "PENSTOCK_MODEL": f"{nobody}/v1#small"}
    assert "No worker says anything" in home.run("status", code=1).out
    with home.worker(PENSTOCK_START="mesh") as worker:
        wait_until(
            lambda: (
                states(home) == {"broker": "up", "model": "down", "memory": "down", "sandbox": "up"}
            ),
            "model and memory to be down",
        )
        shown = home.run("status", code=1).out
        assert re.search(r"  broker   up  sqlite:///", shown)
        server = f"server/small at {nobody.removeprefix('http://')}/v1"
        assert re.search(rf"  model    down since \d\d:\d\d:\d\d  {server}: .*reached", shown)
        assert re.search(rf"  memory   down since \S+  {re.escape(nobody)}", shown)
        assert "  sandbox  up  native: holds" in shown
        worker.kill()
    # What a killed worker said last stays, and that it was killed is said.
    (silent,) = home.show("status", "--json").json()
    assert silent["pid"] == worker.process.pid and silent["silent"]
    assert "was killed: no such process" in home.run("status", code=1).out
    with home.worker() as worker:
        wait_until(
            lambda: (
                [one["pid"] for one in home.show("status", "--json").json()] == [worker.process.pid]
            ),
            "the next worker to be the only one",
        )


@pytest.mark.timeout(120)
def test_all_is_well_when_all_is_there_and_nothing_is_said_after_the_end(
    home: Home, scripted: ScriptedServer
) -> None:
    home.env["PENSTOCK_MODEL"] = f"{scripted.base_url}#scripted"
    with home.worker() as worker:
        home.wait_for(*home.submit("--premise", "A shy volcano"))
        wait_until(lambda: states(home) == {"broker": "up", "model": "up"}, "the model to be up")
        assert home.run("status").out.startswith("worker ")
        assert worker.stop() == 0
    assert "No worker says anything" in home.run("status", code=1).out
    assert not list((home.data / "status").iterdir())


def test_a_folder_that_cannot_be_written_is_said_once_and_the_work_goes_on(
    home: Home, tmp_path: pathlib.Path
) -> None:
    home.data.mkdir(parents=True)
    (home.data / "status").write_text("no folder")
    with home.worker() as worker:
        home.wait_for(*home.submit("--premise", "A shy volcano"))
        worker.wait_for("cannot be written: ")
        assert worker.text().count("cannot be written: ") == 1


@pytest.mark.timeout(120)
def test_what_a_server_says_in_no_unicode_is_shown_all_the_same(
    home: Home, scripted: ScriptedServer
) -> None:
    home.env["PENSTOCK_MODEL"] = f"{scripted.base_url}#scripted"
    odd = {"error": {"message": "no \ud83d room"}}
    fault = {"fault": "status", "status": 503, "body": json.dumps(odd), "times": 1000}
    scripted.script([fault])
    with home.worker() as worker:
        home.submit("--premise", "A shy volcano")
        wait_until(lambda: states(home).get("model") == "down", "the model to be down")
        assert "room" in home.run("status", code=1).out
        worker.process.terminate()
        assert worker.process.wait(60) == 0
    assert not list((home.data / "status").iterdir())


@pytest.mark.timeout(120)
def test_a_worker_of_another_project_is_said_to_whoever_waits(
    home: Home, tmp_path: pathlib.Path
) -> None:
    haiku = {"PENSTOCK_PROJECT": str(ROOT / "examples" / "haiku")}
    with home.worker():
        wait_until(lambda: states(home), "a status")
        said = home.show("run", "haiku", "frost", **haiku).ended(1).err
        assert "works on jobs, mesh, story, and not on 'haiku'" in said
        assert "PENSTOCK_DATA" in said
        shown = home.show("submit", "haiku", "frost", **haiku).ended()
        assert "The runs wait: the worker that is running" in shown.err


@pytest.mark.timeout(120)
def test_who_waits_for_a_run_sees_what_the_run_waits_for(home: Home) -> None:
    port = free_port()
    home.env |= {"PENSTOCK_MODEL": f"http://127.0.0.1:{port}/v1#small"}
    with home.worker():
        waiting = home.start("submit", "story", "--premise", "A tide", "--wait")
        try:
            server = f"server/small at 127.0.0.1:{port}/v1"
            away = f"waits for model: {server}: server/small cannot be reached"
            wait_until(lambda: waiting.has_said(away), "what it waits for")
            with scripted_server(port=port):
                shown = waiting.finish()
        finally:
            waiting.process.kill()
    assert shown.returncode == 0 and "Final Story Output" in shown.stdout
