"""A small real model on this machine: a story, the mesh, jobs; what it cuts off, repeats and cannot
hold. Whatever it says, each run comes to its end, or to a dead letter that says why."""

import os
import pathlib
import re
import shutil
import signal
import zlib

import pytest

from tests.acceptance.homes import Home
from tests.mesh import ECHO, Mesh
from tests.programs import ROOT, wait_until

#: Of an answer in prose, and of one in JSON, whose texts are kept short by its grammar.
PROSE_TOKENS, JSON_TOKENS = 40, 300
LOADED = re.compile(r"was loaded in [\d.]+ s: process (\d+)")


def keep_short(project: pathlib.Path) -> None:
    """The cards' answers fit into the tokens that a test has time for."""
    for card in (project / "agents").glob("*.md"):
        text = card.read_text()
        tokens = JSON_TOKENS if "\noutput:" in text else PROSE_TOKENS
        text = re.sub(r"(?m)^max_tokens: \d+", f"max_tokens: {tokens}", text)
        text = text.replace("{type: string}", "{type: string, maxLength: 40}")
        text = re.sub(r"(?m)^( +)type: array$", r"\1type: array\n\1maxItems: 1", text)
        text = text.replace("cut: fail", "cut: accept")  # it may not come to an end
        if "maxLength: 120" not in text:
            text = re.sub(r"(?m)^( +)type: string$", r"\1type: string\n\1maxLength: 60", text)
        card.write_text(text)


def shop(folder: pathlib.Path, model: str, **cards: str) -> Home:
    """A place with the story, the jobs, and a pipeline of one agent for each of `cards`."""
    project = folder / "project"
    for name in ("agents", "topics"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("mesh.yaml"))
    keep_short(project)
    for name, text in cards.items():
        (project / "agents" / f"{name}.md").write_text(text)
        (project / "topics" / f"{name}.yaml").write_text(
            f"pipeline: {name}\ntopics: {{{name}_ask: A question, {name}_answer: An answer}}\n"
            f"stages: [{{reads: {name}_ask, agent: {name}, writes: {name}_answer}}]\n"
        )
    return Home(folder, PENSTOCK_SEED="0", PENSTOCK_PROJECT=str(project), PENSTOCK_MODEL=model)


@pytest.mark.timeout(300)
def test_a_story_a_job_and_the_deaths_of_the_engine_and_of_its_worker(
    tmp_path: pathlib.Path, small_model: str
) -> None:
    home = shop(tmp_path, small_model)
    (trace_id,) = home.submit("--premise", "Tim the Flying Dog")
    with home.worker() as worker:
        (loaded,) = wait_until(lambda: LOADED.findall(worker.text()), "the weights")
        os.kill(int(loaded), signal.SIGKILL)
        (run,) = home.wait_for(trace_id, limit_s=270)
        assert "has ended: it was killed (SIGKILL)" in worker.text()
        job = home.run(
            *("push-job", "three", "--system", "You are a helpful assistant.", "--wait", "--json"),
            *("--query", "Say hello.", "--output-file", "three.txt"),
        )
        pid = int(LOADED.findall(worker.text())[-1])
        assert "engine   up" in home.run("status").out
        worker.kill()
    wait_until(lambda: not pathlib.Path(f"/proc/{pid}").exists(), "the end of the engine")
    plot = next(entry.event for entry in run.entries if entry.topic == "plot")
    assert plot.usage is not None and plot.usage.model == small_model
    assert plot.usage.output_tokens > 0 and plot.usage.input_tokens > 100
    critique = next(
        entry.event.parts["critique"] for entry in run.entries if entry.topic == "critique"
    )
    assert isinstance(critique, dict) and critique["verdict"] in ("publish", "revise", "rewrite")
    assert job.json()["state"] == "done"
    assert (home.data / "outputs" / "three.txt").read_text().strip()


@pytest.mark.timeout(300)
def test_answers_that_are_cut_off_repeat_themselves_or_find_no_room(
    tmp_path: pathlib.Path, small_model: str
) -> None:
    home = shop(
        tmp_path,
        small_model,
        cut="---\nmax_tokens: 3\ncut: fail\n---\nTell a long story.\n",
        loop="---\nmax_tokens: 120\ntemperature: 0\n---\nSing one line again and again.\n",
    )
    with home.worker():
        screen = home.run("run", "cut", "A hedgehog", code=1)
        assert "was cut off after 3 tokens; raise 'max_tokens' in" in screen.err
        screen = home.run("run", "loop", "love")
        assert "120 out  cut off (length)" in screen.err
        assert len(zlib.compress(screen.out.encode())) < len(screen.out) / 2, "it repeats itself"
        screen = home.run("run", "cut", "word " * 9000, code=1)
        assert "ModelRefused" in screen.err and "context size (8192 tokens)" in screen.err


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("qdrant_client")
def test_a_run_of_the_mesh_ends_in_a_row(tmp_path: pathlib.Path, small_model: str) -> None:
    mesh = Mesh(tmp_path, PENSTOCK_MODEL=small_model)
    keep_short(tmp_path / "project")
    chain = tmp_path / "project" / "topics" / "mesh.yaml"
    chain.write_text(chain.read_text().replace("at_most: 3", "at_most: 1"))
    with mesh.worker() as worker:
        (trace_id,) = mesh.begin(ECHO)
        (run,) = mesh.wait_for(trace_id, limit_s=280)
        assert worker.stop() == 0
    written = [entry.event for entry in run.entries if entry.topic == "ai_solutions"]
    assert all(event.usage and event.usage.output_tokens > 0 for event in written)
    row = mesh.rows()[trace_id]
    assert row["verdict"] in ("PASS", "FAIL") and 1 <= len(written) <= 2
    assert row["model"] == small_model and 1 <= int(row["score"]) <= 10
    assert row["code"] and row["critique"]
