"""Pipelines of one's own: the examples, and chains that change under a file in use."""

import pathlib

import pytest

from tests.acceptance.homes import LABEL, Home
from tests.programs import ROOT, wait_until

HAIKU = ROOT / "examples" / "haiku"


def test_a_pipeline_of_one_yaml_and_two_cards_runs(home: Home) -> None:
    files = [file.relative_to(HAIKU) for file in HAIKU.rglob("*") if file.is_file()]
    assert sorted(map(str, files)) == [
        "README.md",
        "agents/judge.md",
        "agents/poet.md",
        "topics/haiku.yaml",
    ]

    screen = home.run("run", "haiku", "the first frost", PENSTOCK_PROJECT=str(HAIKU))

    assert "poet" in screen.err and "judge" in screen.err
    assert "✅ Final Haiku Output for Trace ID" in screen.out and LABEL in screen.out
    haiku, verdict = screen.out.split("\nverdict:\n")
    assert "You write haikus" in haiku and "You read haikus" in verdict


def test_an_answer_goes_back_as_often_as_the_chain_allows_and_then_on(home: Home) -> None:
    home.env["PENSTOCK_PROJECT"] = str(ROOT / "examples" / "headline")
    checked = home.run("check")
    assert "headline → front_page or news: measure" in checked.out
    short = home.run("run", "headline", "Rain.", "--json")
    trace = home.run("trace", short.json()["trace_id"], "--json").json()
    topics = [event["topic"] for event in trace["events"]]
    # The offline model's replies are too long, however often it is asked.
    assert topics == ["news", "headline", "news", "headline", "news", "headline", "front_page"]
    assert trace["state"] == "done"
    assert trace["answer"] == trace["events"][-1]["parts"]["headline"]
    assert trace["events"][-1]["parts"]["measure"]["verdict"] == "TOO_LONG"


STEPS = """
import asyncio, os, pathlib
from penstock.steps import Work, step

NOTES = pathlib.Path(os.environ["NOTES"])

def ask(question: str) -> str:
    with (NOTES / "asked").open("a") as file:
        file.write(question + "\\n")
    return question

async def hold() -> str:
    (NOTES / "holding").touch()
    while not (NOTES / "go").exists():
        await asyncio.sleep(0.01)
    return "went on"

@step("write")
async def write(work: Work) -> str:
    asked = await work.call("ask", ask, work.parts["idea"])
    return asked if asked == "first" else await work.call("hold", hold)
"""
CHAIN = """\
pipeline: tale
topics: {idea: What it is about, text: The text}
stages:
  - {reads: idea, step: write, name: teller, writes: text}
"""


@pytest.mark.timeout(120)
def test_a_stage_that_was_renamed_or_joined_by_another_pays_for_nothing_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTES", str(tmp_path))  # this process reads the project too
    project = tmp_path / "project"
    for name, text in {"steps/tale.py": STEPS, "topics/tale.yaml": CHAIN}.items():
        (project / name).parent.mkdir(parents=True)
        (project / name).write_text(text)
    home = Home(
        tmp_path / "home",
        PENSTOCK_PROJECT=str(project),
        PENSTOCK_EVENT_LOG="off",
    )
    begin = ("submit", "tale", "--json")
    with home.worker() as worker:
        first = home.run(*begin, "first").json()["trace_id"]
        home.wait_for(first)
        second = home.run(*begin, "second").json()["trace_id"]
        wait_until((tmp_path / "holding").exists, "the second call of the second run")
        worker.kill()

    chain = project / "topics" / "tale.yaml"
    chain.write_text(CHAIN.replace("teller", "narrator"))
    (tmp_path / "go").touch()
    with home.worker() as worker:
        worker.wait_for("narrator takes the place of teller on 'idea'")
        (run,) = home.wait_for(second)
        assert run.entries[-1].event.parts["text"] == "went on"
        assert worker.stop() == 0

    chain.write_text(CHAIN + "  - {reads: idea, step: write, name: counter}\n")
    with home.worker() as worker:
        worker.wait_for("counter takes the place of narrator on 'idea'")
        third = home.run(*begin, "third").json()["trace_id"]
        home.wait_for(third)
        assert worker.stop() == 0
    assert (tmp_path / "asked").read_text().split() == ["first", "second", "third", "third"]


@pytest.mark.timeout(120)
def test_what_waits_on_a_topic_that_was_renamed_is_said_wherever_somebody_looks(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTES", str(tmp_path))
    project = tmp_path / "project"
    for name, text in {"steps/tale.py": STEPS, "topics/tale.yaml": CHAIN}.items():
        (project / name).parent.mkdir(parents=True)
        (project / name).write_text(text)
    home = Home(tmp_path / "home", PENSTOCK_PROJECT=str(project), PENSTOCK_EVENT_LOG="off")
    first, second = (
        home.run("submit", "tale", "first", "--json").json()["trace_id"] for _ in range(2)
    )
    chain = project / "topics" / "tale.yaml"
    chain.write_text(CHAIN.replace("idea", "premise"))
    waits = "2 events wait on 'idea' for teller, which no chain has any more"
    with home.worker() as worker:
        worker.wait_for(waits)
        assert waits in home.run("lag").out
        assert f"topics     {waits}" in home.show("doctor").ended(1).out
        assert "waits for teller" in home.run("trace", first).out
        wait_until(lambda: waits in home.show("status").out, "the status")
        home.run("cancel", first)
        assert home.trace(first)["state"] == "cancelled"
        assert worker.stop() == 0
    old = CHAIN.replace("idea", "premise").replace("name: teller", "name: narrator")
    old += "  - {reads: idea, step: write, name: teller, writes: text}\nentry: [premise, idea]\n"
    chain.write_text(old.replace("topics: {", "topics: {idea: As it was, "))
    with home.worker() as worker:
        home.wait_for(second)
        assert worker.stop() == 0
    assert (tmp_path / "asked").read_text().split() == ["first"]
    chain.write_text(CHAIN.replace("idea", "premise"))
    assert home.run("lag").out.count("idea") == 0
    assert "nothing waits on 'idea'" in home.fails("cancel", "--topic", "idea")
