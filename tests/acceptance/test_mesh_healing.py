"""The mesh that heals and holds back: a slow coder, a model and a memory that come later."""

import pathlib
import time

import pytest

from tests.mesh import CODER, ECHO, FIX, PRODUCER, RIGHT, WRONG, Mesh, calls_of
from tests.programs import wait_until
from tests.servers import QdrantServer, ScriptedServer, free_port, scripted_server

pytestmark = pytest.mark.usefixtures("qdrant_client")


@pytest.mark.timeout(180)
def test_the_producer_is_held_back_by_tasks_that_wait_also_over_a_kill_and_goes_on_afterwards(
    tmp_path: pathlib.Path, scripted: ScriptedServer, broker: dict[str, str]
) -> None:
    mesh = Mesh(tmp_path, PENSTOCK_MODEL=f"{scripted.base_url}#scripted", **broker)
    scripted.script([{"fault": "timeout", "instructions": CODER, "times": 1000}])
    producing = {"PENSTOCK_START": "mesh", "PENSTOCK_EVERY_S": "0.05"}
    looks: list[set[str]] = [set()]

    def held_back(repeated: int = 0) -> set[str]:
        """The ideas, when all of them wait for the coder and there are no more than a look ago: at
        twenty a second there would be."""
        (row,) = [row for row in mesh.run("lag", "--json").json() if row["topic"] == "ai_topic"]
        ideas = {event.trace_id for event in mesh.begun("ai_ideas")}
        waits = row["lag"] == len(ideas) == len(calls_of(scripted, CODER)) - repeated > 3
        governor = (row["governor"]["state"], row["governor"]["limit"])
        looks.append(ideas if waits and governor == ("THROTTLED", 3) else set())
        return looks[-1] if looks[-1] == looks[-2] else set()

    with mesh.worker(**producing) as worker:
        worker.wait_for("🛑 LAG TOO HIGH. Throttling... mesh: ")
        held = wait_until(held_back, "a producer that is held back")
        assert "🛑 THROTTLED (limit 3)" in mesh.run("lag").out
        worker.kill()
    with mesh.worker(**producing) as worker:
        worker.wait_for("🛑 LAG TOO HIGH. Throttling... mesh: ")
        # What was in flight at the kill is asked for once more.
        ideas = wait_until(lambda: held_back(len(held)), "the next one, too")
        released = time.time()
        scripted.release()
        worker.wait_for("▶ Lag is down. mesh goes on: ")
        wait_until(lambda: len(calls_of(scripted, PRODUCER)) > len(ideas), "more ideas")
        assert worker.stop() == 0
    # Nobody thinks up more now, and every idea comes to its row.
    every = {event.trace_id for event in mesh.begun("ai_ideas")}
    with mesh.worker() as worker:
        mesh.wait_for(*every, limit_s=90)
        assert worker.stop() == 0
    rows = mesh.rows()
    assert rows.keys() == every > ideas >= held
    # Programs that nobody scripted are wrong four times.
    assert {row["verdict"] for row in rows.values()} == {"FAIL"}
    assert len(calls_of(scripted, PRODUCER)) == len(every)
    # The first question about each was in flight at the kill, and nothing else was asked twice.
    assert len(calls_of(scripted, CODER)) == 4 * len(every) + len(held)
    assert len(calls_of(scripted, FIX)) == 3 * len(every)
    reports = [
        (event.created, event.parts["ai_telemetry"])
        for event in sorted(mesh.begun("ai_telemetry"), key=lambda event: event.created)
        if event.stage == "governor"
    ]
    assert {one["kind"] for _, one in reports} == {"governor"}
    assert reports[0][1]["state"] == "THROTTLED" and reports[0][1]["lag"] > 3
    # On a slow machine the first ideas can be many for a moment, before the coder has any.
    goes_on = next(
        n for n, (at, one) in enumerate(reports) if at > released and one["state"] == "ACTIVE"
    )
    (held_at, first), (active_at, second) = reports[goes_on - 1 : goes_on + 1]
    assert first["state"] == "THROTTLED" and second["lag"] <= 3
    # Due times of the timer, and not one idea.
    assert active_at - held_at > 0.1
    assert not [e for e in mesh.begun("ai_ideas") if held_at < e.created < active_at]


@pytest.mark.timeout(120)
def test_a_model_that_is_away_at_the_start_and_starts_later_finds_all_the_work(
    tmp_path: pathlib.Path,
) -> None:
    port = free_port()
    mesh = Mesh(tmp_path, PENSTOCK_MODEL=f"http://127.0.0.1:{port}/v1#scripted")
    with mesh.worker(PENSTOCK_START="mesh", PENSTOCK_EVERY_S="0.5") as worker:
        traces = mesh.begin(*({**ECHO, "title": f"Echo {n}"} for n in range(4)))
        worker.wait_for("does not answer")
        wait_until(lambda: worker.text().count("failed (") >= 5, "probes")
        # The tasks that wait hold back the producer, too.
        worker.wait_for("🛑 LAG TOO HIGH")
        assert mesh.rows() == {} and mesh.dead_letters() == []
        with scripted_server(port=port):
            worker.wait_for("answers again")
            mesh.wait_for(*traces)
            worker.wait_for("▶ Lag is down")
            wait_until(lambda: len(mesh.rows()) > len(traces), "the row of an idea")
    assert mesh.rows().keys() > set(traces) and mesh.dead_letters() == []


@pytest.mark.timeout(120)
def test_a_qdrant_that_is_away_slows_nothing_and_gets_the_notes_when_it_starts(
    tmp_path: pathlib.Path, qdrant_server: QdrantServer
) -> None:
    # A look could take a minute. One that finds nobody there takes no time at all.
    mesh = Mesh(tmp_path, QDRANT_URL=qdrant_server.url, PENSTOCK_RECALL_S="60")
    with mesh.worker() as worker:
        traces = mesh.begin(RIGHT, WRONG)
        runs = mesh.wait_for(*traces)
        assert f"The memory at {qdrant_server.url} is down: Qdrant does not answer" in worker.text()
        for run in runs:
            for entry in run.entries:
                usage = entry.event.usage
                assert usage is None or usage.seconds < 20, entry
        assert {row["verdict"] for row in mesh.rows().values()} == {"PASS"}
        # A slip, two that passed, and what their reviews found.
        assert mesh.notes_waiting() == 5
        qdrant_server.start()
        worker.wait_for(f"The memory at {qdrant_server.url} is back")
        mesh.wait_for_notes()
        kinds = sorted(note.kind for note in mesh.notes())
        assert kinds == ["failure", "pattern", "pattern", "success", "success"]
        # And a memory that goes in the middle is one that was never there.
        qdrant_server.stop()
        (again,) = mesh.begin({**RIGHT, "title": "Once more"})
        mesh.wait_for(again)
        assert mesh.notes_waiting() == 2 and worker.stop() == 0
    assert mesh.dead_letters() == []
