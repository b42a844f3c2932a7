"""`logs/broker_interactions.json`: every produce and consume as a JSON line, and no secret."""

import collections
import datetime
import hashlib
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from app.runs import DEAD, Run
from tests.acceptance.places import LABEL, Place
from tests.programs import ROOT, Worker, wait_until
from tests.servers import ScriptedServer

#: Of each kind of line.
COMMON = {"timestamp", "event", "topic", "trace_id", "event_id", "message"} | {
    *("agent", "stage", "card", "partition", "offset")
}
#: Two lines for each topic but the first and the last, which have one producer or reader less.
TOPICS = ["premise", "plot", "story", "critique", "final"]
SECRET = "sk-acceptance-7d1f0b2c9e"

pytestmark = pytest.mark.timeout(120)
Line = dict[str, Any]


class Told:
    """The runs of a worker that has ended, and the lines about them."""

    def __init__(self, place: Place, runs: list[Run]) -> None:
        self.place = place
        self.runs = runs
        self.lines = place.logged()

    def of(self, run: Run, what: str) -> list[Line]:
        return [
            line
            for line in self.lines
            if line["trace_id"] == run.trace_id and line["event"] == what
        ]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Three runs of three origins: the seed, one submitted by another process, one of `story`."""
    place = Place(tmp_path_factory.mktemp("told"))
    with place.worker() as worker:
        worker.wait_for("Final Story Output")
        (submitted,) = place.submit("--premise", "A shy volcano")
        place.wait_for(submitted)
        worker.stop()
    alone = place.run("story", "A snail in a hurry", "--json").json()["trace_id"]
    (seeded,) = {event.trace_id for event in place.begun()} - {submitted, alone}
    return Told(place, place.read(seeded, submitted, alone))


def test_each_line_has_its_fields_and_an_id_of_its_own(told: Told) -> None:
    for line in told.lines:
        assert line.keys() - {"usage", "instructions"} == COMMON, line.keys()
        assert line["event"] in ("produce", "consume")
        assert isinstance(line["partition"], int) and isinstance(line["offset"], int)
        when = datetime.datetime.fromisoformat(line["timestamp"])
        assert abs((datetime.datetime.now(datetime.UTC) - when).total_seconds()) < 600
    ids = [line["event_id"] for line in told.lines]
    assert len(ids) == len(set(ids)) == 3 * (5 + 5)


def test_every_event_of_a_run_is_produced_once_and_consumed_once(told: Told) -> None:
    for run in told.runs:
        produced, consumed = told.of(run, "produce"), told.of(run, "consume")
        assert [line["topic"] for line in produced] == TOPICS
        assert [line["topic"] for line in consumed] == TOPICS
        for entry, made, read in zip(run.entries, produced, consumed, strict=True):
            for line in (made, read):
                assert line["message"]["id"] == entry.event.id
                assert line["message"]["parts"] == entry.event.parts
                assert (line["partition"], line["offset"]) == (entry.partition, entry.offset)
            # Who submits writes its line beside a worker that reads the record at once.
            if entry.event.stage != "submit":
                assert made["timestamp"] <= read["timestamp"]


def test_a_line_names_stage_agent_and_card_so_that_a_text_is_traced_to_its_instructions(
    told: Told,
) -> None:
    cards = {
        name: f"{name}@{hashlib.sha256((ROOT / f'agents/{name}.md').read_bytes()).hexdigest()[:12]}"
        for name in ("plotter", "writer", "critic")
    }
    for run in told.runs:
        made = told.of(run, "produce")[1:]
        assert [line["agent"] for line in made] == ["plotter", "writer", "critic", "writer"]
        for line in made:
            assert line["card"] == line["message"]["card"] == cards[line["agent"]]
            usage = line["usage"]
            assert usage["model"] == "offline/storyteller" and usage["output_tokens"] > 0
        assert [line["stage"] for line in told.of(run, "consume")] == [
            "plotter_agent_stream",
            "writer_agent_stream",
            "critic_agent_stream",
            "writer_revise_stream",
            "editor_output_stream",
        ]


def test_a_line_of_an_agents_answer_repeats_its_instructions(told: Told) -> None:
    _, plot, story, critique, final = told.of(told.runs[0], "produce")

    assert plot["instructions"].startswith("You plan stories for children")
    assert critique["instructions"].startswith("You edit children's stories")
    # The same card twice, with and without its task.
    assert story["instructions"] in final["instructions"]
    assert "Write the whole\nstory again" in final["instructions"]
    for line in told.lines:
        assert ("instructions" in line) == (line["event"] == "produce" and bool(line["agent"]))


def test_instructions_can_be_left_out_and_the_hash_stays(place: Place) -> None:
    place.run("story", "A shy volcano", PENSTOCK_LOG_INSTRUCTIONS="off")

    lines = place.logged()
    assert len(lines) == 10 and not any("instructions" in line for line in lines)
    assert lines[-1]["topic"] == "final" and lines[-2]["card"].startswith("writer@")


def test_the_log_is_rotated_by_size_and_keeps_so_many_files(place: Place) -> None:
    size = 60_000
    with place.worker(PENSTOCK_EVENT_LOG_BYTES=str(size), PENSTOCK_EVENT_LOG_FILES="3") as worker:
        runs = "".join(f'{{"premise": "story {n}"}}\n' for n in range(12))
        screen = place.run("submit", "story", "--file", "-", "--json", stdin=runs)
        place.wait_for(*(line["trace_id"] for line in screen.json_lines()))
        worker.stop()

    files = sorted(file.name for file in place.logs.iterdir())
    name = "broker_interactions.json"
    assert files == [name, f"{name}.1", f"{name}.2", f"{name}.3"]
    assert all((place.logs / file).stat().st_size <= size for file in files)
    # Whole lines in each of them, the newest last.
    times = [line["timestamp"] for line in place.logged() if line["topic"] != "premise"]
    assert len(times) > 15 and times == sorted(times)


def test_the_log_can_be_turned_off(place: Place) -> None:
    screen = place.run("story", "A shy volcano", PENSTOCK_EVENT_LOG="off")

    assert LABEL in screen.out
    assert not list(place.logs.glob("*"))


def test_a_dead_letter_is_on_the_log_with_its_cause(place: Place) -> None:
    with place.worker() as worker:
        place.run("send", "premise", "no event at all")
        wait_until(place.letters, "a dead letter")
        worker.stop()

    (line,) = place.logged()
    assert line["event"] == "produce" and line["topic"] == "penstock-dead-letters"
    assert line["message"]["cause"] == "MalformedEvent"
    assert line["message"]["raw"] == "no event at all"


@pytest.fixture
def secretive(tmp_path: pathlib.Path, scripted: ScriptedServer) -> Iterator[tuple[Place, Worker]]:
    """A worker that has a key."""
    place = Place(
        tmp_path,
        PENSTOCK_SEED="0",
        OPENAI_API_KEY=SECRET,
        OPENAI_BASE_URL=scripted.base_url,
        PENSTOCK_MODEL="openai/the-model",
        PENSTOCK_ATTEMPTS="2",
    )
    with place.worker() as worker:
        yield place, worker


def test_a_key_is_in_no_file_and_on_no_screen_also_when_the_server_echoes_it(
    secretive: tuple[Place, Worker], scripted: ScriptedServer
) -> None:
    place, worker = secretive
    echo = {"error": {"message": f"Bad key: {SECRET}!", "type": "x", "code": SECRET}}
    page = f"<html>Bearer {SECRET}</html>"
    screens = []

    def echoed(mark: str, state: str, *faults: dict[str, Any]) -> None:
        scripted.script([{"fault": "status", "match": mark, **fault} for fault in faults])
        (trace_id,) = place.submit("--premise", f"A hedgehog, {mark}")
        (run,) = place.wait_for(trace_id, state=state)
        assert len(run.letters) == (state == DEAD)

    # Tried again; refused; given up; locked, which the worker says, and goes on.
    echoed("retried", "done", {"status": 503, "body": echo})
    echoed("refused", DEAD, {"status": 400, "body": echo})
    echoed("given up", DEAD, {"status": 500, "body": page}, {"status": 500, "body": page})
    echoed("locked", "done", {"status": 401, "body": echo})
    scripted.script([{"fault": "status", "status": 401, "body": echo}])
    screens.append(place.run("doctor", code=1))
    letters = place.letters()
    screens.append(place.run("dead-letters", letters[0]["id"]))
    screens.append(place.run("trace", letters[1]["trace_id"]))
    worker.stop()
    scripted.script([{"fault": "status", "status": 401, "body": echo}])
    screens.append(place.run("story", "A shy volcano", code=1))

    # The server was really given the key, and its words arrive without it.
    assert {call["headers"]["authorization"] for call in scripted.calls()} == {f"Bearer {SECRET}"}
    assert "Bad key: [secret]!" in letters[0]["message"]
    assert "Bad key: [secret]!" in worker.text()
    for screen in screens:
        assert SECRET not in screen.text
    assert SECRET not in worker.text()
    files = list(place.files())
    assert {"penstock.db", "broker_interactions.json"} <= {file.name for file in files}
    holders = [file for file in files if SECRET.encode() in file.read_bytes()]
    assert not holders


def test_no_line_is_lost_while_many_runs_are_under_way(place: Place) -> None:
    with place.worker() as worker:
        runs = "".join(f'{{"premise": "story {n}"}}\n' for n in range(100))
        screen = place.run("submit", "story", "--file", "-", "--json", stdin=runs)
        trace_ids = {line["trace_id"] for line in screen.json_lines()}
        place.wait_for(*trace_ids)
        worker.stop()

    counts = collections.Counter(
        (line["trace_id"], line["event"], line["topic"]) for line in place.logged()
    )
    assert set(counts.values()) == {1}
    assert {key for key in counts if key[1] == "produce"} == {
        (trace_id, "produce", topic) for trace_id in trace_ids for topic in TOPICS
    }


def test_a_password_in_an_address_is_on_no_screen(place: Place, scripted: ScriptedServer) -> None:
    address = scripted.base_url.replace("http://", "http://me:hunter2-hunter2@")
    place.env["PENSTOCK_MODEL"] = f"{address}#the-model"

    with place.worker() as worker:
        place.wait_for(*place.submit("--premise", "A shy volcano"))
        worker.stop()

    assert "http://me:[secret]@127.0.0.1" in worker.text()
    assert "hunter2-hunter2" not in worker.text()
    assert not [file for file in place.files() if b"hunter2-hunter2" in file.read_bytes()]
