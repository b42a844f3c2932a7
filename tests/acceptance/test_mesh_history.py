"""The mesh's history when its file cannot be written: runs wait for it, or say what is wrong."""

import fcntl
import pathlib

import pytest

from tests.mesh import RIGHT, WRONG, Mesh


@pytest.fixture
def mesh(tmp_path: pathlib.Path) -> Mesh:
    return Mesh(tmp_path)


@pytest.mark.timeout(120)
def test_a_locked_history_keeps_runs_waiting_also_over_a_kill(mesh: Mesh) -> None:
    file = mesh.data / "ai_history.csv"
    file.parent.mkdir(parents=True)
    file.touch()
    with file.open("rb") as mine:
        fcntl.flock(mine, fcntl.LOCK_EX)
        with mesh.worker() as worker:
            traces = mesh.begin(RIGHT, WRONG)
            worker.wait_for("cannot be written: another program has locked it")
            worker.kill()
    with mesh.worker() as worker:
        mesh.wait_for(*traces)
        assert worker.stop() == 0
    assert mesh.rows().keys() == set(traces)
    assert mesh.dead_letters() == []


def test_a_history_of_somebody_elses_is_a_dead_letter_that_says_so(mesh: Mesh) -> None:
    file = mesh.data / "ai_history.csv"
    file.parent.mkdir(parents=True)
    file.write_text("name,price\nx,1\n")
    with mesh.worker() as worker:
        (trace,) = mesh.begin(RIGHT)
        worker.wait_for("ends as a dead letter")
        (dead_letter,) = mesh.dead_letters()
        assert dead_letter["trace_id"] == trace and "is not the history" in dead_letter["message"]
        file.rename(file.with_suffix(".theirs"))
        mesh.run("dead-letters", "replay", "--all")
        mesh.wait_for(trace)
    assert mesh.rows().keys() == {trace}
