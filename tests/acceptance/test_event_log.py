"""`logs/broker_interactions.json`: every produce and consume as a JSON line, and no secret."""

import base64
import collections
import dataclasses
import datetime
import hashlib
import itertools
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.runs.runs import DEAD, Run
from tests.acceptance.homes import LABEL, Home, finals
from tests.programs import FAUST, ROOT, Worker, read_json_lines, wait_until
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


class Logged:
    """The runs of a worker that has ended, and the lines about them."""

    def __init__(self, home: Home, runs: list[Run]) -> None:
        self.home = home
        self.runs = runs
        self.lines = home.logged()

    def of(self, run: Run, what: str) -> list[Line]:
        return [
            line
            for line in self.lines
            if line["trace_id"] == run.trace_id and line["event"] == what
        ]


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    """Three runs of three origins: the seed, one submitted by another process, one of `story`. And
    a record that is no event."""
    home = Home(tmp_path_factory.mktemp("logged"))
    with home.worker() as worker:
        worker.wait_for("Final Story Output")
        (submitted,) = home.submit("--premise", "A shy volcano")
        home.wait_for(submitted)
        home.run("send", "premise", "no event at all", program=FAUST)
        wait_until(home.dead_letters, "a dead letter")
        worker.stop()
    alone = home.run("story", "A snail in a hurry", "--json").json()["trace_id"]
    (seeded,) = finals(worker.text())[:1]
    return Logged(home, home.read(seeded, submitted, alone))


def test_each_line_has_its_fields_and_an_id_of_its_own(logged: Logged) -> None:
    for line in logged.lines:
        assert line.keys() - {"usage", "instructions"} == COMMON, line.keys()
        assert line["event"] in ("produce", "consume")
        assert isinstance(line["partition"], int) and isinstance(line["offset"], int)
        when = datetime.datetime.fromisoformat(line["timestamp"])
        assert abs((datetime.datetime.now(datetime.UTC) - when).total_seconds()) < 600
    ids = [line["event_id"] for line in logged.lines]
    assert len(ids) == len(set(ids)) == 3 * (5 + 5) + 1


def test_every_event_of_a_run_is_produced_once_and_consumed_once(logged: Logged) -> None:
    for run in logged.runs:
        produced, consumed = logged.of(run, "produce"), logged.of(run, "consume")
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
    logged: Logged,
) -> None:
    cards = {
        name: f"{name}@{hashlib.sha256((ROOT / f'agents/{name}.md').read_bytes()).hexdigest()[:12]}"
        for name in ("plotter", "writer", "critic")
    }
    for run in logged.runs:
        made = logged.of(run, "produce")[1:]
        assert [line["agent"] for line in made] == ["plotter", "writer", "critic", "writer"]
        for line in made:
            assert line["card"] == line["message"]["card"] == cards[line["agent"]]
            usage = line["usage"]
            assert usage["model"] == "offline/storyteller" and usage["output_tokens"] > 0
        assert [line["stage"] for line in logged.of(run, "consume")] == [
            "plotter_agent_stream",
            "writer_agent_stream",
            "critic_agent_stream",
            "writer_revise_stream",
            "editor_output_stream",
        ]


def test_a_line_of_an_agents_answer_repeats_its_instructions(logged: Logged) -> None:
    _, plot, story, critique, final = logged.of(logged.runs[0], "produce")

    assert plot["instructions"].startswith("You plan stories for children")
    assert critique["instructions"].startswith("You edit children's stories")
    # The same card twice, each time with its task.
    common, _, task = story["instructions"].rpartition("\n\n")
    assert final["instructions"].startswith(common) and task not in final["instructions"]
    assert "Write the whole story again" in final["instructions"]
    for line in logged.lines:
        # `usage` is of what a stage made; a dead letter holds no answer.
        assert ("instructions" in line) == bool(line["agent"] and line.get("usage"))


def test_a_dead_letter_is_on_the_log_with_its_cause(logged: Logged) -> None:
    (line,) = [line for line in logged.lines if line["topic"] == "penstock-dead-letters"]

    assert line["event"] == "produce" and line["stage"] == "plotter_agent_stream"
    assert line["message"]["cause"] == "MalformedEvent"
    assert line["message"]["raw"] == "no event at all"


@dataclasses.dataclass
class Many:
    """A hundred runs at once, on a log that is rotated and says no instructions."""

    home: Home
    trace_ids: list[str]


#: Bytes of each file of `Many`'s log: more than ten of them are filled.
FILE_BYTES = 250_000


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Many:
    home = Home(tmp_path_factory.mktemp("many"), PENSTOCK_SEED="0")
    with home.worker(
        PENSTOCK_EVENT_LOG_BYTES=str(FILE_BYTES),
        PENSTOCK_EVENT_LOG_FILES="99",
        PENSTOCK_LOG_INSTRUCTIONS="off",
    ) as worker:
        trace_ids = home.submit_all(f"story {n}" for n in range(100))
        home.wait_for(*trace_ids)
        worker.stop()
    return Many(home, trace_ids)


def test_the_log_is_rotated_by_size(many: Many) -> None:
    name = "broker_interactions.json"
    files = [name, *(f"{name}.{n}" for n in range(1, len(list(many.home.logs.iterdir()))))]
    assert len(files) > 10
    assert all(0 < (many.home.logs / file).stat().st_size <= FILE_BYTES for file in files)
    # The newest is the one without a number. Who submits writes its lines beside the worker.
    for newer, older in itertools.pairwise(files):
        last, first = (
            [line["timestamp"] for line in read_json_lines(many.home.logs / file)]
            for file in (older, newer)
        )
        assert last[-1] <= first[-1] and last[0] <= first[0]


def test_no_line_is_lost_or_written_twice_while_many_runs_are_under_way(many: Many) -> None:
    counts = collections.Counter(
        (line["trace_id"], line["event"], line["topic"]) for line in many.home.logged()
    )
    assert set(counts.values()) == {1}
    assert counts.keys() == {
        (trace_id, what, topic)
        for trace_id in many.trace_ids
        for what in ("produce", "consume")
        for topic in TOPICS
    }


def test_instructions_can_be_left_out_and_the_hash_stays(many: Many) -> None:
    lines = many.home.logged()
    assert not any("instructions" in line for line in lines)
    assert all(line["card"] for line in lines if line["event"] == "produce" and line["agent"])


def test_the_log_can_be_switched_off(home: Home) -> None:
    screen = home.run("story", "A shy volcano", PENSTOCK_EVENT_LOG="off")

    assert LABEL in screen.out
    assert not list(home.logs.glob("*"))


@pytest.fixture
def secretive(tmp_path: pathlib.Path, scripted: ScriptedServer) -> Iterator[tuple[Home, Worker]]:
    """A worker that has a key."""
    home = Home(
        tmp_path,
        PENSTOCK_SEED="0",
        OPENAI_API_KEY=SECRET,
        OPENAI_BASE_URL=scripted.base_url,
        PENSTOCK_MODEL="openai/the-model",
        PENSTOCK_ATTEMPTS="2",
    )
    with home.worker() as worker:
        yield home, worker


def test_a_key_is_in_no_file_and_on_no_screen_also_when_the_server_echoes_it(
    secretive: tuple[Home, Worker], scripted: ScriptedServer
) -> None:
    home, worker = secretive
    echo = {"error": {"message": f"Bad key: {SECRET}!", "type": "x", "code": SECRET}}
    page = f"<html>Bearer {SECRET}</html>"
    screens = []

    # Tried again; refused; given up; locked, which the worker says, and goes on.
    faults = {
        "mark 1": [{"status": 503, "body": echo}],
        "mark 2": [{"status": 400, "body": echo}],
        "mark 3": [{"status": 500, "body": page}, {"status": 500, "body": page}],
        "mark 4": [{"status": 401, "body": echo}],
    }
    for mark, statuses in faults.items():
        scripted.script([{"fault": "status", "match": mark, **status} for status in statuses])
    coded = base64.b64encode(f"Bearer {SECRET}".encode()).decode()
    logged = f"You sent {SECRET}, or {coded}, to https://x/?key={SECRET}."
    scripted.script([{"fault": "answer", "match": "mark 5", "content": logged}])
    marks = ["mark 1", "mark 2", "mark 4", "mark 5"]
    retried, refused, locked, echoed = home.submit_all(marks)
    home.wait_for(retried, locked, echoed)
    said = json.dumps(home.trace(echoed))
    assert "You sent [secret], or " in said and "to https://x/?key=[secret]." in said
    assert SECRET not in said
    # Alone: with the others' failures the server would count as down, and no try of anybody's.
    (given_up,) = home.submit_all(["mark 3"])
    home.wait_for(refused, given_up, state=DEAD)
    scripted.script([{"fault": "status", "status": 401, "body": echo}])
    screens.append(home.run("doctor", code=1))
    dead_letters = {dead_letter["trace_id"]: dead_letter for dead_letter in home.dead_letters()}
    screens.append(home.run("dead-letters", "show", dead_letters[refused]["id"]))
    screens.append(home.run("trace", given_up))
    worker.stop()
    scripted.script([{"fault": "status", "status": 401, "body": echo}])
    screens.append(home.run("story", "A shy volcano", code=1))

    # The server was really given the key, and its words arrive without it.
    assert {call["headers"]["authorization"] for call in scripted.calls()} == {f"Bearer {SECRET}"}
    assert "Bad key: [secret]!" in dead_letters[refused]["message"]
    assert "Bad key: [secret]!" in worker.text()
    for screen in screens:
        assert SECRET not in screen.text
    assert SECRET not in worker.text()
    files = list(home.files())
    assert {"penstock.db", "broker_interactions.json"} <= {file.name for file in files}
    for form in (SECRET, coded[10:-4]):
        assert not [file for file in files if form.encode() in file.read_bytes()]


def test_a_password_in_an_address_is_on_no_screen(home: Home, scripted: ScriptedServer) -> None:
    address = scripted.base_url.replace("http://", "http://me:hunter2-hunter2@")
    home.env["PENSTOCK_MODEL"] = f"{address}#the-model"

    with home.worker() as worker:
        home.wait_for(*home.submit("--premise", "A shy volcano"))
        worker.stop()

    assert "http://me:[secret]@127.0.0.1" in worker.text()
    assert "hunter2-hunter2" not in worker.text()
    assert not [file for file in home.files() if b"hunter2-hunter2" in file.read_bytes()]
