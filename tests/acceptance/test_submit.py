"""Runs from another process: `submit`, `trace`, `dead-letters` and `rerun`, beside a worker."""

import json
import re
import uuid
from collections.abc import Iterator

import pytest

from tests.acceptance.homes import LABEL, TRACEBACK, UUID, Home, finals, side_by_side
from tests.programs import FAUST, wait_until
from tests.servers import ScriptedServer

TOPICS = ["premise", "plot", "story", "critique", "final"]
NO_WORKER = "No worker is running: the runs wait. Start one with: penstock worker"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A place where a worker runs."""
    home = Home(tmp_path_factory.mktemp("busy"), PENSTOCK_SEED="0")
    with home.worker():
        yield home


def test_submit_prints_the_trace_id_and_the_worker_writes_the_story(busy: Home) -> None:
    screen = busy.run("submit", "story", "--premise", "A shy volcano")

    assert UUID.fullmatch(screen.out.strip()) and screen.err == ""
    (run,) = busy.wait_for(screen.out.strip())
    assert run.entries[0].event.parts == {"premise": "A shy volcano"}
    assert [entry.topic for entry in run.entries] == TOPICS


def test_submit_takes_the_text_the_premise_or_parts_by_name(busy: Home) -> None:
    ways = [
        ["A shy volcano"],
        ["--part", "premise=A = B"],
        ["--part", "premise=p", "--part", "plot=q"],
    ]
    begun = [busy.submit(*arguments)[0] for arguments in ways]

    parts = [run.entries[0].event.parts for run in busy.wait_for(*begun)]
    assert parts == [
        {"premise": "A shy volcano"},
        {"premise": "A = B"},
        {"premise": "p", "plot": "q"},
    ]


def test_submit_wait_follows_the_run_and_prints_the_story_last(busy: Home) -> None:
    screen = busy.run("submit", "story", "--premise", "A shy volcano", "--wait")

    (trace_id,) = finals(screen.out)
    assert screen.out.startswith("✅ Final") and LABEL in screen.out and "volcano" in screen.out
    lines = screen.err.splitlines()
    assert lines[0] == f"run {trace_id}"
    assert [re.split(r" +", line)[3] for line in lines[1:]] == TOPICS[1:]


def test_a_file_begins_one_run_a_line_and_wait_follows_them_all(busy: Home) -> None:
    mine = str(uuid.uuid4())
    lines = [{"premise": "one"}, {"premise": "zwei ✓", "trace_id": mine}, {"premise": "three"}]
    file = busy.folder / "runs.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")

    screen = busy.run("submit", "story", "--file", str(file), "--wait", "--json")

    runs = screen.json_lines()
    assert [run["events"][0]["parts"]["premise"] for run in runs] == ["one", "zwei ✓", "three"]
    assert {run["state"] for run in runs} == {"done"} and runs[1]["trace_id"] == mine
    assert len({run["trace_id"] for run in runs}) == 3

    # The same file once more, by way of stdin: what has a trace id is not begun again.
    again = busy.run("submit", "story", "--file", "-", stdin=file.read_text()).out.split()
    assert again[1] == mine and len(again) == 3
    busy.wait_for(*again)
    premises = [event.parts["premise"] for event in busy.begun()]
    assert [premises.count(premise) for premise in ("one", "zwei ✓", "three")] == [2, 1, 2]


#: A line, and what is wrong with it.
BAD_LINES = {
    '{"premise": "cut': "not JSON: Unterminated string",
    '{"premise": "a cat", "premise": "a dog"}': "the key 'premise' stands twice in one object",
    '{"premise": ' + "[" * 100_000: "not JSON: more than 100 levels, one in the other",
    '["premise"]': 'expected an object like {"premise": "..."}',
    '{"topic": "a cat"}': "a run of 'story' begins with 'premise'",
    '{"premise": "a cat", "hero": "Tim"}': "'story' has no part 'hero'",
    '{"premise": ""}': "'premise' is empty",
    '{"premise": "a cat", "trace_id": "17"}': "'17' is not a trace id: it is a UUID",
    '{"premise": "a cat", "trace_id": 17}': "trace_id is 17: expected a UUID",
}


def test_a_file_with_a_bad_line_is_refused_whole_with_the_number_of_the_line(busy: Home) -> None:
    before = len(busy.begun())
    command = ("submit", "story", "--file", "-")

    screens = side_by_side(
        BAD_LINES,
        lambda line: busy.show(*command, stdin=f'{{"premise": "good"}}\n\n{line}\n'),
    )

    for line, complaint in BAD_LINES.items():
        said = screens[line].refused()
        assert said.startswith("Error: -:3: ") and complaint in said
    assert len(busy.begun()) == before


def test_trace_draws_the_run_as_a_tree_with_times_agents_and_tokens(busy: Home) -> None:
    (trace_id,) = busy.submit("--premise", "A shy volcano")
    (run,) = busy.wait_for(trace_id)

    tree = busy.run("trace", trace_id).out.splitlines()
    assert re.match(rf"story  {trace_id}  done  [\d.]+ s, \d+ tokens in, \d+ out$", tree[0])
    assert re.match(r"waited [\d.]+ s, worked [\d.]+ s; cost \$0.0000$", tree[1])
    assert LABEL in tree[2]
    rows = [line for line in tree if re.search(r"\+\d+\.\d\d s", line)]
    depths = []
    for row, entry in zip(rows, run.entries, strict=True):
        event = entry.event
        found = re.search(r"(\w+)  \+\d+\.\d\d s  (\w+)", row)
        assert found and found[1] == entry.topic and found[2] == (event.agent or event.stage)
        if event.usage is not None:
            assert event.card and event.card in row
            assert event.usage.tokens in row and "offline/storyteller" in row
            assert re.search(r"  \d+\.\d\d s  ", row)
        depths.append(found.start())
    assert depths == sorted(set(depths))  # each hangs from the one before

    assert busy.trace(trace_id)["state"] == "done"


def test_trace_of_an_unknown_run_says_so(busy: Home) -> None:
    unknown = str(uuid.uuid4())

    assert f"there is no run {unknown}" in busy.fails("trace", unknown)
    assert "'abc' is not a trace id: it is a UUID" in busy.fails("trace", "abc")


def test_a_run_is_run_again_from_a_step_as_a_run_of_its_own(busy: Home) -> None:
    (trace_id,) = busy.submit("--premise", "A shy volcano")
    (old,) = busy.wait_for(trace_id)

    screen = busy.run("rerun", trace_id, "--from", "story", "--wait", "--json")

    run = screen.json()
    assert run["trace_id"] != trace_id and run["state"] == "done"
    assert [event["topic"] for event in run["events"]] == ["story", "critique", "final"]
    assert {event["forked_from"] for event in run["events"]} == {trace_id}
    assert run["events"][0]["parts"] == old.entries[2].event.parts
    said = busy.fails("rerun", trace_id, "--from", "plots")
    assert "has no event on 'plots'; it has some on premise, plot, story" in said


def test_a_dead_letter_is_listed_and_shown_whole(busy: Home) -> None:
    busy.run("send", "premise", '{"not": "an event"}', program=FAUST)  # Faust's own command

    wait_until(busy.dead_letters, "a dead letter")
    (dead_letter,) = busy.dead_letters()
    assert dead_letter["cause"] == "MalformedEvent" and dead_letter["raw"] == '{"not": "an event"}'
    listed = busy.run("dead-letters").out
    assert listed.startswith(dead_letter["id"]) and dead_letter["message"] in listed
    shown = busy.run("dead-letters", "show", dead_letter["id"])
    assert '{"not": "an event"}' in shown.out
    assert "there is no dead letter 17" in busy.fails("dead-letters", "show", "17")


def test_runs_submitted_while_no_worker_runs_wait_and_submit_says_so(home: Home) -> None:
    screen = home.run("submit", "story", "--premise", "A shy volcano")
    trace_id = screen.out.strip()
    assert screen.err.strip() == NO_WORKER
    assert home.trace(trace_id)["events"][0]["waits_for"] == ["plotter_agent_stream"]
    assert "waits for plotter_agent_stream" in home.run("trace", trace_id).out
    assert "There are no dead letters." in home.run("dead-letters").text

    following = home.start("submit", "story", "--premise", "A snail in a hurry", "--wait")
    wait_until(lambda: len(home.begun()) == 2, "the second run")
    with home.worker():
        done = following.finish()
        home.wait_for(trace_id)

    assert done.returncode == 0 and TRACEBACK not in done.stderr
    assert done.stderr.startswith(NO_WORKER)
    assert finals(done.stdout) and "snail" in done.stdout


@pytest.mark.timeout(120)
def test_a_run_that_is_cancelled_ends_where_it_is_and_is_never_taken_up_again(
    home: Home, scripted: ScriptedServer
) -> None:
    home.env["PENSTOCK_MODEL"] = f"{scripted.base_url}#the-model"
    scripted.script([{"fault": "timeout", "seconds": 30, "match": "hedgehog", "times": 9}])
    with home.worker() as worker:
        (flying,) = home.submit("--premise", "A hedgehog")
        wait_until(lambda: scripted.calls(), "the call")
        assert f"run {flying} is cancelled" in home.run("cancel", flying).out
        worker.wait_for(f"run {flying}: cancelled, 1 events in flight")
        assert home.trace(flying)["state"] == "cancelled"
        assert "it is cancelled" in home.fails("cancel", flying)
        (other,) = home.submit("--premise", "A shy volcano")
        home.wait_for(other)
        assert "it is done" in home.fails("cancel", other)
        assert worker.stop() == 0
    # One that waits for a worker is not begun by it.
    (waiting,) = home.submit("--premise", "A second hedgehog")
    assert "ends when one starts" in home.run("cancel", waiting).out
    with home.worker() as worker:
        home.wait_for(waiting, state="cancelled")
        assert worker.stop() == 0
    assert len([call for call in scripted.calls() if "hedgehog" in str(call)]) == 1
