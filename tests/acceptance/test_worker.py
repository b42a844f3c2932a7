"""The worker: started in two ways, seeding once, on a timer, draining, one to a file."""

import dataclasses
import os
import pathlib
import re
import shutil
import signal
import time

import pytest

from tests.acceptance.homes import LABEL, Home, Screen, finals, side_by_side
from tests.programs import FAUST, wait_until
from tests.servers import ScriptedServer

SEEDED = re.compile(r"run (\S+): seeded story")
SEEDED_BEFORE = re.compile(r"story was seeded before, as run (\S+) ")
TIMED = re.compile(r"run (\S+): started by the timer of story")

pytestmark = pytest.mark.timeout(180)


@dataclasses.dataclass
class Starts:
    """What workers showed that were started one after the other in one place."""

    home: Home
    first: str  # faust -A app worker -l info
    second_beside_it: Screen
    doctor_beside_it: Screen
    restarted: str  # python -m penstock worker
    again: str  # PENSTOCK_SEED=again


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> Starts:
    home = Home(tmp_path_factory.mktemp("starts"))
    with home.worker(program=FAUST) as worker:
        worker.wait_for("Final Story Output")
        beside = side_by_side(["worker", "doctor"], home.show)
        assert worker.stop() == 0
        first = worker.text()
    with home.worker() as worker:
        worker.wait_for("seeded before")
        home.wait_for(*home.submit("--premise", "A shy volcano"))
        assert worker.stop() == 0
        restarted = worker.text()
    with home.worker(program=FAUST, PENSTOCK_SEED="again") as worker:
        worker.wait_for("Final Story Output")
        worker.process.send_signal(signal.SIGINT)
        assert worker.process.wait(30) == 0
        again = worker.text()
    return Starts(home, first, beside["worker"], beside["doctor"], restarted, again)


def greeting(text: str) -> list[str]:
    return [
        line
        for line in text.splitlines()
        if re.match(r"(model|pipelines|broker|event log) +", line)
    ]


def test_faust_and_python_start_the_same_worker(starts: Starts) -> None:
    lines = greeting(starts.first)

    assert [line.split("  ")[0] for line in lines] == ["model", "pipelines", "broker", "event log"]
    assert greeting(starts.restarted) == lines
    assert str(starts.home.database) in lines[2]
    for text in (starts.first, starts.restarted):
        assert "story (5 stages)" in text and "Worker ready" in text


def test_the_first_start_seeds_the_story_of_tim_and_shows_it_under_its_trace_id(
    starts: Starts,
) -> None:
    (trace_id,) = SEEDED.findall(starts.first)
    assert finals(starts.first) == [trace_id]
    _, _, story = starts.first.partition(f"Output for Trace ID {trace_id}:\n")
    assert LABEL in story.splitlines()[0]
    assert "Tim" in story

    (run,) = starts.home.read(trace_id)
    assert run.entries[0].event.stage == "initiate_pipeline_once"
    assert run.entries[0].event.parts == {"premise": "Tim the Flying Dog"}
    assert run.answer in story


def test_a_restart_does_not_seed_again(starts: Starts) -> None:
    (trace_id,) = SEEDED.findall(starts.first)

    assert SEEDED_BEFORE.findall(starts.restarted) == [trace_id]
    assert not SEEDED.findall(starts.restarted)
    assert trace_id not in finals(starts.restarted)


def test_seed_again_seeds_a_new_run(starts: Starts) -> None:
    (seeded,) = SEEDED.findall(starts.first)
    (anew,) = SEEDED.findall(starts.again)

    assert anew != seeded
    assert finals(starts.again) == [anew]
    seeds = [e for e in starts.home.begun() if e.stage == "initiate_pipeline_once"]
    assert {event.trace_id for event in seeds} == {seeded, anew} and len(seeds) == 2


def test_a_second_worker_on_the_same_file_is_refused_and_referred_to_kafka(starts: Starts) -> None:
    said = starts.second_beside_it.refused()

    assert "a worker is already running (process " in said
    assert str(starts.home.database) in said
    assert "PENSTOCK_BROKER=kafka://" in said
    assert "a worker is running" in starts.doctor_beside_it.ended().out
    # The one that was there went on.
    assert finals(starts.first)


def test_the_console_shows_each_step_with_its_run_agent_and_tokens(starts: Starts) -> None:
    (trace_id,) = SEEDED.findall(starts.first)
    step = rf"run {trace_id}: (\w+) -> ([\w ]+) \((.+), [\d.]+ s(?:, (\d+) tokens in)?"
    steps = re.findall(step, starts.first)

    assert [(reads, writes, does) for reads, writes, does, _ in steps] == [
        ("premise", "plot", "plotter"),
        ("plot", "story", "writer"),
        ("story", "critique", "critic"),
        ("critique", "final", "writer (revise)"),
        ("final", "the end", "present"),
    ]
    assert all(int(tokens) > 0 for *_, tokens in steps[:-1])


def test_seed_0_never_seeds_and_the_agents_have_their_names(home: Home) -> None:
    with home.worker():  # a place has PENSTOCK_SEED=0
        home.wait_for(*home.submit("--premise", "A shy volcano"))
    assert [event.stage for event in home.begun()] == ["submit"]

    listed = home.run("agents", program=FAUST).out
    agents = dict(re.findall(r"@(\w+) +\| (\w+)", listed))
    assert agents == {
        "plotter_agent_stream": "premise",
        "writer_agent_stream": "plot",
        "critic_agent_stream": "story",
        "writer_revise_stream": "critique",
        "editor_output_stream": "final",
        "jobs_high_stream": "jobs_high",
        "jobs_low_stream": "jobs_low",
        "jobs_write_stream": "jobs_answers",
        "producer_agent_stream": "ai_ideas",
        "coder_agent_stream": "ai_topic",
        "reviewer_glance_stream": "ai_solutions",
        "sandbox_stream": "ai_solutions",
        "reviewer_agent_stream": "ai_verified_solutions",
        "history_stream": "ai_reviews",
        "cancel_agent_stream": "penstock",
    }


def test_a_timer_makes_one_run_for_each_due_time_also_over_a_restart(home: Home) -> None:
    # One due time in eleven days: it is over when the first worker starts.
    with home.worker(PENSTOCK_EVERY_S="1000000") as worker:
        worker.wait_for("started by the timer of story")
    with home.worker(PENSTOCK_EVERY_S="1000000") as worker:
        home.wait_for(*home.submit("--premise", "A shy volcano"))
    timed = [event for event in home.begun() if event.stage == "create_runs_at_interval"]
    assert len(timed) == 1
    assert timed[0].parts == {"premise": "Tim the Flying Dog"}

    started_s = time.time()
    with home.worker(PENSTOCK_EVERY_S="0.5") as worker:
        wait_until(lambda: len(TIMED.findall(worker.text())) >= 4, "four runs of the timer")
        home.wait_for(*TIMED.findall(worker.text())[:4])
        worker.stop()
    took_s = time.time() - started_s
    timed = [event for event in home.begun() if event.stage == "create_runs_at_interval"]
    assert len({event.trace_id for event in timed}) == len(timed)
    assert len(timed) - 1 <= took_s / 0.5 + 1


def asked(server: ScriptedServer, count: int) -> None:
    wait_until(lambda: len(server.logged("asked")) >= count, f"{count} calls")


def test_a_stopping_worker_waits_for_the_call_in_flight_and_its_answer_is_used(
    home: Home, scripted: ScriptedServer, tmp_path: pathlib.Path
) -> None:
    model = f"{scripted.base_url}#scripted"
    (trace_id,) = home.submit("--premise", "A shy volcano")

    scripted.script([{"fault": "timeout", "seconds": 1.5}])
    with home.worker(PENSTOCK_MODEL=model) as worker:
        asked(scripted, 1)
        assert worker.stop() == 0
        assert "Waiting up to 20 s for 1 events in flight" in worker.text()
    (run,) = home.read(trace_id)
    assert [entry.topic for entry in run.entries] == ["premise", "plot"]
    assert len(scripted.logged("answered")) == 1

    # Past the limit, the call is given up and made again by the next worker.
    scripted.script([{"fault": "timeout"}])
    with home.worker(PENSTOCK_MODEL=model, PENSTOCK_DRAIN_S="0.2") as worker:
        asked(scripted, 2)
        started_s = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - started_s < 15
        said = "1 events were not finished in 0.2 s (PENSTOCK_DRAIN_S); they are taken up again"
        assert said in worker.text()

    with home.worker(PENSTOCK_MODEL=model):
        home.wait_for(trace_id)
    keys = [line["key"] for line in scripted.logged("answered")]
    assert len(keys) == len(set(keys)) == 4
    assert len(scripted.logged("asked")) == 5


def test_a_worker_goes_on_with_what_a_killed_one_had_in_flight(
    home: Home, scripted: ScriptedServer
) -> None:
    model = f"{scripted.base_url}#scripted"
    (trace_id,) = home.submit("--premise", "A shy volcano")
    scripted.script([{"fault": "none"}, {"fault": "timeout"}])

    with home.worker(PENSTOCK_MODEL=model) as worker:
        asked(scripted, 2)
        worker.kill()
    with home.worker(PENSTOCK_MODEL=model) as worker:
        home.wait_for(trace_id)
        assert "The last worker died with 1 events in flight" in worker.text()

    keys = [line["key"] for line in scripted.logged("answered")]
    assert len(keys) == len(set(keys)) == 4


@pytest.mark.parametrize(
    "what", ["was removed", "was replaced by another file", "was overwritten by another file"]
)
def test_a_worker_whose_file_is_gone_stops_and_says_so_and_pays_nothing_more(
    home: Home, scripted: ScriptedServer, what: str
) -> None:
    home.env |= {"PENSTOCK_SEED": "0", "PENSTOCK_MODEL": f"{scripted.base_url}#scripted"}
    backup = home.folder / "backup.db"
    with home.worker() as worker:
        assert worker.stop() == 0
    shutil.copy(home.database, backup)
    scripted.script([{"fault": "timeout", "times": 1000}])
    with home.worker() as worker:
        home.submit("--premise", "A tide")
        wait_until(lambda: scripted.calls(), "a call in flight")
        if "removed" in what:
            shutil.rmtree(home.data)
        elif "replaced" in what:
            backup.rename(home.database)
        else:
            shutil.copyfile(backup, home.database)
        assert worker.process.wait(30) == 1
        assert f"Error: {home.database} {what} while this worker had it open" in worker.text()
        assert "plot -> story" not in worker.text()
        assert len(scripted.calls()) == 1
    if "overwritten" in what:
        assert home.database.read_bytes() == backup.read_bytes()


def test_what_runs_hold_is_for_its_owner_alone(tmp_path: pathlib.Path) -> None:
    home = Home(tmp_path / "new", PENSTOCK_SEED="1", PENSTOCK_EVENT_LOG_BYTES="20000")
    before = os.umask(0o022)
    try:
        with home.worker() as worker:
            worker.wait_for("Final Story Output")
            home.run("story", "A tide")
            folders = [home.data, home.logs, home.data / "status"]
            files = [one for folder in folders for one in folder.iterdir() if not one.is_dir()]
            assert {one.name for one in files} > {"penstock.db", "broker_interactions.json"}
            for one in (*folders, *files):
                assert one.stat().st_mode & 0o077 == 0, one
    finally:
        os.umask(before)


@pytest.mark.timeout(120)
def test_cards_that_changed_are_said_and_taken_when_they_are_sound(tmp_path: pathlib.Path) -> None:
    project = tmp_path / "project"
    card, chain = project / "agents" / "bard.md", project / "topics" / "tale.yaml"
    for file in (card, chain):
        file.parent.mkdir(parents=True)
    card.write_text("Be kind.\n")
    chain.write_text(
        "pipeline: tale\ntopics: {idea: What, text: The text}\n"
        "stages: [{reads: idea, agent: bard, writes: text}]\n"
    )
    home = Home(tmp_path / "home", PENSTOCK_PROJECT=str(project))

    def used() -> str:
        shown = home.run("run", "tale", "a snail", "--json")
        label: str = shown.json()["events"][-1]["card"]
        return label

    assert "no worker that can take cards runs" in home.fails("worker", "--reload")
    with home.worker() as worker:
        kind = used()
        card.write_text("Be brief.\n")
        worker.wait_for("Changed since this worker has read them: agents/bard.md")
        said = home.run("run", "tale", "a snail").err
        assert "works with agents/bard.md as it read them before they were changed" in said
        wait_until(lambda: "Changed since" in home.run("status").out, "the status")
        card.write_text("---\ntools: [look]\n---\nBe brief.\n")
        assert "there is no tool 'look'" in home.show("worker", "--reload").ended(1).err
        card.write_text("Be brief.\n")
        assert used() == kind
        brief = home.run("worker", "--reload").out
        assert "Cards taken, for steps that begin from here on: bard@" in brief
        assert used() != kind and used() in brief
        worker.process.send_signal(signal.SIGHUP)
        worker.wait_for("Cards read anew: none has changed")
        chain.write_text(chain.read_text().replace("What", "Which"))
        worker.wait_for("topics/tale.yaml. It works with what it has read; a restart takes them")
        assert worker.stop() == 0
