"""Models over HTTP: a server that fails on demand."""

import pathlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.runs.runs import DEAD, Run
from tests.acceptance.homes import Home, copy_project
from tests.programs import Worker, wait_until
from tests.servers import ScriptedServer, scripted_server

#: Before the critic's request in a story's run: the plotter's and the writer's.
BEFORE_CRITIC = 2


class Shop:
    """A worker whose agents ask the scripted server, shared by the tests of this module."""

    def __init__(self, home: Home, worker: Worker, server: ScriptedServer) -> None:
        self.home = home
        self.worker = worker
        self.server = server

    def begin(self, *faults: dict[str, object]) -> tuple[str, str]:
        """The trace id of a run whose requests meet `faults`, and the mark that they carry."""
        mark = f"mark {uuid.uuid4()}"
        self.server.script([{"match": mark, **fault} for fault in faults])
        (trace_id,) = self.home.submit("--premise", f"A hedgehog, {mark}")
        return trace_id, mark

    def run_story(self, *faults: dict[str, object]) -> tuple[Run, list[dict[str, object]]]:
        """The run, which is done, and its calls in the order in which they were asked."""
        trace_id, mark = self.begin(*faults)
        (run,) = self.home.wait_for(trace_id)
        return run, self.calls(mark)

    def calls(self, mark: str) -> list[dict[str, object]]:
        return [call for call in self.server.calls() if mark in str(call)]


@pytest.fixture(scope="module")
def shop(
    tmp_path_factory: pytest.TempPathFactory, scripted_process: ScriptedServer
) -> Iterator[Shop]:
    scripted_process.reset()
    folder = tmp_path_factory.mktemp("shop")
    project = copy_project(folder / "project")
    for card in (project / "agents").glob("*.md"):
        card.write_text(card.read_text().replace("max_tokens", "timeout_s: 1.5\nmax_tokens", 1))
    home = Home(
        folder,
        PENSTOCK_SEED="0",
        PENSTOCK_PROJECT=str(project),
        PENSTOCK_MODEL=f"{scripted_process.base_url}#the-model",
        PENSTOCK_ATTEMPTS="3",
    )
    with home.worker() as worker:
        yield Shop(home, worker, scripted_process)


def attempts(run: Run) -> dict[str, int]:
    return {entry.topic: entry.event.attempt for entry in run.entries if entry.event.parent_id}


def test_every_event_says_which_model_made_it_and_what_it_used(shop: Shop) -> None:
    run, calls = shop.run_story()

    assert len(calls) == 4
    for entry in run.entries[1:]:
        usage = entry.event.usage
        assert usage is not None and usage.model == "server/the-model", usage
        assert usage.requests == 1 and usage.output_tokens > 0 and usage.seconds > 0


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "status", "status": 500},
        {"fault": "status", "status": 503},
        {"fault": "cut"},
        {"fault": "html"},
        {"fault": "truncated-json"},
        {"fault": "empty-choices"},
        {"fault": "timeout"},
    ],
    ids=lambda fault: str(fault.get("status", fault["fault"])),
)
def test_what_may_pass_is_tried_again(shop: Shop, fault: dict[str, object]) -> None:
    run, calls = shop.run_story(fault)

    assert len(calls) == 5
    assert attempts(run) == {"plot": 2, "story": 1, "critique": 1, "final": 1}


def test_a_server_that_asks_for_time_is_not_asked_before(shop: Shop) -> None:
    _, calls = shop.run_story({"fault": "status", "status": 429, "headers": {"retry-after": "1.2"}})

    first, second = (float(str(call["t"])) for call in calls[:2])
    assert second - first >= 1.2


def test_of_a_server_that_does_not_count_tokens_those_are_counted_that_arrived(shop: Shop) -> None:
    run, _ = shop.run_story({"fault": "no-usage", "times": 4})

    used = [entry.event.usage for entry in run.entries if entry.event.usage]
    assert [one.input_tokens for one in used] == [0, 0, 0, 0]
    assert all(one.output_tokens > 0 for one in used)


def test_an_answer_that_does_not_fit_the_critics_rubric_gets_one_repair_call(shop: Shop) -> None:
    run, calls = shop.run_story(
        {"fault": "none", "times": BEFORE_CRITIC}, {"fault": "bad-json-output"}
    )

    assert len(calls) == 5
    assert "could not be used" in str(calls[BEFORE_CRITIC + 1])
    assert attempts(run)["critique"] == 1
    critique = next(e.event.parts["critique"] for e in run.entries if e.topic == "critique")
    assert set(critique) == {"critique", "scores", "verdict"}


def test_an_answer_that_never_fits_is_a_dead_letter_that_says_where(shop: Shop) -> None:
    trace_id, mark = shop.begin(
        {"fault": "none", "times": BEFORE_CRITIC}, {"fault": "bad-json-output", "times": 2}
    )
    (run,) = shop.home.wait_for(trace_id, state=DEAD)

    (dead_letter,) = run.dead_letters
    assert dead_letter.stage == "critic_agent_stream" and dead_letter.cause == "ModelMisbehaved"
    assert "critic" in dead_letter.message and "asked twice" in dead_letter.message
    assert len(shop.calls(mark)) == BEFORE_CRITIC + 2

    # A replay asks that anew, and nothing that was recorded before it.
    shop.home.run("dead-letters", "replay", dead_letter.id)
    shop.home.wait_for(trace_id)
    assert len(shop.calls(mark)) == BEFORE_CRITIC + 2 + 2


CUT: dict[str, object] = {
    "fault": "answer",
    "content": "It begins well and then",
    "finish_reason": "length",
}


def test_prose_that_was_cut_off_goes_on_and_says_so(shop: Shop) -> None:
    run, calls = shop.run_story({"fault": "none"}, CUT)
    assert len(calls) == 4 and run.is_cut
    (story,) = (entry.event for entry in run.entries if entry.topic == "story")
    assert story.usage is not None and story.usage.cut == "length"
    shop.worker.wait_for(
        "was cut off (length) and goes on as it is. Card 'writer': raise 'max_tokens' in"
    )
    screen = shop.home.run("trace", run.trace_id)
    assert "done, cut off" in screen.out and "cut off (length)" in screen.out


@pytest.mark.parametrize("content", ['{"scores": {"plot', "{}"])
def test_json_that_was_cut_off_fails_and_is_not_asked_for_again_with_the_same_limit(
    shop: Shop, content: str
) -> None:
    cut = {**CUT, "content": content}
    trace_id, mark = shop.begin({"fault": "none", "times": BEFORE_CRITIC}, cut)
    (run,) = shop.home.wait_for(trace_id, state=DEAD)
    (dead_letter,) = run.dead_letters
    assert (
        dead_letter.cause == "ModelMisbehaved"
        and "the answer was cut off after" in dead_letter.message
    )
    assert len(shop.calls(mark)) == BEFORE_CRITIC + 1


def test_a_card_can_ask_once_more_with_twice_the_limit(
    scripted: ScriptedServer, tmp_path: pathlib.Path
) -> None:
    project = tmp_path / "project"
    for name, text in (
        ("agents/retrier.md", "---\nmax_tokens: 30\ncut: retry\n---\nAnswer.\n"),
        (
            "topics/retried.yaml",
            "pipeline: retried\ntopics: {ask: A question, answer: An answer}\n"
            "stages: [{reads: ask, agent: retrier, writes: answer}]\n",
        ),
    ):
        (project / name).parent.mkdir(parents=True)
        (project / name).write_text(text)
    home = Home(
        tmp_path / "home",
        PENSTOCK_PROJECT=str(project),
        PENSTOCK_MODEL=f"{scripted.base_url}#the-model",
    )
    for times, code in ((1, 0), (2, 1)):
        scripted.reset()
        scripted.script([{"times": times, **CUT}])
        screen = home.run("run", "retried", "What is it?", code=code)
        assert [call["request"]["max_tokens"] for call in scripted.calls()] == [30, 60]
        assert code == 0 or "was cut off after 60 tokens" in screen.err


@pytest.mark.parametrize(("status", "hint"), [(400, "400"), (404, "Check the model's name")])
def test_what_will_not_pass_is_a_dead_letter_at_once(shop: Shop, status: int, hint: str) -> None:
    trace_id, mark = shop.begin({"fault": "status", "status": status, "body": "no such thing"})
    (run,) = shop.home.wait_for(trace_id, state=DEAD)

    (dead_letter,) = run.dead_letters
    assert dead_letter.cause == "ModelRefused" and hint in dead_letter.message
    assert len(shop.calls(mark)) == 1
    shop.run_story()  # and the worker goes on


def test_a_refused_key_pauses_the_stage_and_kills_no_run(shop: Shop) -> None:
    run, calls = shop.run_story({"fault": "status", "status": 401, "body": "Incorrect API key"})

    assert len(calls) == 5 and not run.dead_letters
    assert "given to the server of OPENAI_BASE_URL only" in shop.worker.text()
    assert "answers again" in shop.worker.text()


def test_one_passing_500_is_no_property_of_a_server(shop: Shop) -> None:
    passing = {"fault": "status", "status": 500, "body": "out of memory"}
    run, calls = shop.run_story({"fault": "none", "times": BEFORE_CRITIC}, passing)
    assert attempts(run)["critique"] == 1 and "json_object" in str(calls[BEFORE_CRITIC + 1])
    _, calls = shop.run_story()
    assert len(calls) == 4 and "json_schema" in str(calls[BEFORE_CRITIC])
    request: Any = calls[BEFORE_CRITIC]["request"]
    # What is thought first is written first; the words of the schema stand nowhere else.
    schema = request["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == ["critique", "scores", "verdict"]
    assert schema["properties"]["critique"]["description"] not in str(request["messages"])


def test_a_server_that_cannot_do_json_schema_is_asked_in_another_way(shop: Shop) -> None:
    # The last test of the shop: what a server cannot do is remembered.
    run, calls = shop.run_story(
        {"fault": "none", "times": BEFORE_CRITIC},
        {"fault": "status", "status": 500, "body": "response_format json_schema is not supported"},
    )

    assert attempts(run)["critique"] == 1 and len(calls) == 5
    assert "json_object" in str(calls[BEFORE_CRITIC + 1])
    _, calls = shop.run_story()
    assert len(calls) == 4 and "json_object" in str(calls[BEFORE_CRITIC])


@pytest.mark.timeout(120)
def test_an_outage_of_the_provider_burns_no_tries_and_every_run_ends(
    tmp_path: pathlib.Path,
) -> None:
    with scripted_server(log_path=tmp_path / "calls.jsonl") as server:
        home = Home(
            tmp_path / "home",
            PENSTOCK_SEED="0",
            PENSTOCK_MODEL=f"{server.base_url}#the-model",
            PENSTOCK_ATTEMPTS="3",
        )
        with home.worker() as worker:
            server.kill()
            trace_ids = home.submit_all(f"Hedgehog {n}" for n in range(5))
            worker.wait_for("does not answer")
            # The first three failures find out that it is down; what follows are probes.
            wait_until(lambda: worker.text().count("failed (") >= 5, "probes")
            assert not any(run.dead_letters for run in home.read(*trace_ids))
            with scripted_server(port=server.port, log_path=server.log_path):
                home.wait_for(*trace_ids)
            worker.wait_for("answers again")
    assert not home.dead_letters()


def test_a_model_that_refuses_is_a_dead_letter_and_a_replay_asks_it_anew(shop: Shop) -> None:
    message = {"role": "assistant", "content": None, "refusal": "I will not write of dogs"}
    body = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    trace_id, mark = shop.begin({"fault": "status", "status": 200, "body": body})
    (run,) = shop.home.wait_for(trace_id, state=DEAD)
    (dead_letter,) = run.dead_letters
    assert dead_letter.cause == "ModelMisbehaved"
    assert "the model refused to answer: I will not write of dogs" in dead_letter.message
    assert len(shop.calls(mark)) == 1
    shop.home.run("dead-letters", "replay", dead_letter.id)
    shop.home.wait_for(trace_id)
    assert len(shop.calls(mark)) == 1 + 4
