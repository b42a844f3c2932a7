"""The mesh by a real worker: tasks, code, verdicts, fixes, reviews, rows."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.mesh import (
    CODER,
    ECHO,
    ECHOES,
    FIX,
    GLANCE,
    PRODUCER,
    REVIEWER,
    RIGHT,
    WRONG,
    WRONG_TOO,
    Mesh,
    calls_of,
    instructions,
    prompt,
)
from tests.programs import wait_until
from tests.servers import ScriptedServer

pytestmark = pytest.mark.usefixtures("qdrant_client")


@pytest.fixture
def mesh(tmp_path: pathlib.Path) -> Mesh:
    return Mesh(tmp_path)


class Shop(Mesh):
    """A worker whose agents ask the scripted server, shared by tests of this module. Its code is
    never right unless that is scripted; each test has tasks of its own."""

    server: ScriptedServer

    def script(self, title: str, *faults: dict[str, Any]) -> None:
        """The calls about the task `title` meet `faults`; those with it as a lesson do not."""
        quoted = f"<title>{title}</title>"
        self.server.script([{"match": quoted, **fault} for fault in faults])

    def calls(self, phrase: str, title: str) -> list[dict[str, Any]]:
        """The calls with these instructions about the task `title`, in order."""
        return calls_of(self.server, phrase, f"<title>{title}</title>")


@pytest.fixture(scope="module")
def shop(
    tmp_path_factory: pytest.TempPathFactory, scripted_process: ScriptedServer
) -> Iterator[Shop]:
    scripted_process.reset()
    model = f"{scripted_process.base_url}#scripted"
    shop = Shop(tmp_path_factory.mktemp("mesh"), PENSTOCK_MODEL=model)
    shop.server = scripted_process
    with shop.worker():
        yield shop


def test_the_mesh_works_by_itself_from_ideas_to_rows(mesh: Mesh) -> None:
    with mesh.worker(PENSTOCK_START="mesh", PENSTOCK_EVERY_S="0.2") as worker:
        wait_until(lambda: len(mesh.rows()) >= 6, "six rows")
        assert worker.stop() == 0
    rows = mesh.rows().values()
    assert {row["model"] for row in rows} == {"offline/storyteller"}
    assert {row["verdict"] for row in rows} == {"PASS"} and mesh.dead_letters() == []
    assert all(1 <= int(row["score"]) <= 10 and row["critique"] for row in rows)
    ideas = mesh.begun("ai_ideas")
    # One producer: each due time of the timer is one run, and so is the seed, which is off here.
    assert len({event.trace_id for event in ideas}) == len(ideas) >= 6
    assert {event.stage for event in ideas} == {"create_runs_at_interval"}
    reported = {(one["agent"], one["task"]) for one in mesh.telemetry()}
    assert {("producer", None), ("coder", None), ("reviewer", None)} <= reported
    kinds = {note.kind for note in mesh.notes()}
    assert {"success", "pattern"} <= kinds
    assert {note.task.partition("\n")[0] for note in mesh.notes("success")} >= {
        row["title"] for row in rows
    }


def test_right_code_is_kept_and_a_slip_is_mended_and_not_made_again(mesh: Mesh) -> None:
    with mesh.worker(PENSTOCK_EVERY_S="0.1") as worker:
        wrong, right = mesh.begin(WRONG, RIGHT)
        mesh.wait_for(wrong, right)
        mesh.wait_for_notes()
        (later,) = mesh.begin(WRONG_TOO)
        runs = mesh.wait_for(wrong, right, later)
        assert worker.stop() == 0
    # `start: manual`: this worker was not asked to think up tasks.
    assert mesh.begun("ai_ideas") == []
    rows = mesh.rows()
    assert rows.keys() == {right, wrong, later}
    for run, task, rounds in zip(runs, (WRONG, RIGHT, WRONG_TOO), (2, 1, 1), strict=True):
        row = rows[run.trace_id]
        assert (row["title"], row["verdict"]) == (task["title"], "PASS")
        assert row["output"] == task["expected"] and row["critique"]
        solutions = [entry for entry in run.entries if entry.topic == "ai_solutions"]
        assert len(solutions) == rounds
    # Back on ai_topic is the task with the verdict on it; nothing of it is left in a mended row.
    (first, second) = [e.event for e in runs[0].entries if e.topic == "ai_topic"]
    assert first.parts == {"ai_topic": WRONG}
    sent_back = second.parts["ai_verified_solutions"]
    assert (sent_back["verdict"], sent_back["cause"]) == ("FAIL", "output differs")
    assert rows[wrong]["cause"] == rows[wrong]["error"] == ""
    looks = [one.parts["ai_telemetry"] for one in mesh.begun("ai_telemetry")]
    prose = [look for look in looks if isinstance(look, str)]
    assert len(prose) == 4 and all(look.startswith("At first sight") for look in prose)
    # The run's answer is its review, whatever was told later.
    assert runs[1].answer["score"] == int(rows[right]["score"])
    tasks = [one["task"] for one in mesh.telemetry() if one["agent"] == "coder"]
    assert sorted(tasks, key=str) == [None, None, None, "fix"]
    assert [note.task for note in mesh.notes("failure")] == [f"{WRONG['title']}\n{WRONG['task']}"]


def test_code_that_stays_wrong_goes_back_three_times_and_on_to_review_as_a_failure(
    shop: Shop,
) -> None:
    task = {**ECHO, "title": "Stays wrong"}
    for number in range(4):
        raises = {"code": f"raise ValueError('not so {number}')", "explanation": "It raises."}
        shop.script(
            "Stays wrong", {"fault": "answer", "instructions": CODER, "content": json.dumps(raises)}
        )
    (trace,) = shop.begin(task)
    (run,) = shop.wait_for(trace)
    assert len([e for e in run.entries if e.topic == "ai_topic"]) == 1 + 3
    written = shop.calls(CODER, "Stays wrong")
    assert len(written) == 4
    assert [FIX in instructions(call) for call in written] == [False, True, True, True]
    for number, call in enumerate(written[1:]):
        assert f"ValueError: not so {number}" in prompt(call) and "raise ValueError" in prompt(call)
    # One review of the four programs, with the verdict before it; a first look at each, without.
    asked = shop.calls(REVIEWER, "Stays wrong")
    reviews = [call for call in asked if GLANCE not in instructions(call)]
    assert len(asked) == 4 + 1 and len(reviews) == 1
    assert ["<verdict>FAIL</verdict>" in prompt(call) for call in asked].count(True) == 1
    assert "<verdict>FAIL</verdict>" in prompt(reviews[0])
    row = shop.rows()[trace]
    assert (row["verdict"], row["cause"]) == ("FAIL", "exit code")
    assert "ValueError: not so 3" in row["error"] and row["code"] == raises["code"]


@pytest.mark.parametrize("says", ["the same", "expected_is_wrong"])
def test_a_program_that_failed_is_not_paid_for_again(shop: Shop, says: str) -> None:
    title = f"No way: {says}"
    first: dict[str, Any] = {"explanation": "It prints b.", "code": "print('b')"}
    second: dict[str, Any] = {"explanation": "It is right.", "code": "print('b')  \n"}
    if says == "expected_is_wrong":
        second |= {says: True, "code": "print('c')"}
    faults = [
        {"fault": "answer", "instructions": CODER, "content": json.dumps(x)}
        for x in (first, second)
    ]
    shop.script(title, *faults)
    (trace,) = shop.begin({**ECHO, "title": title})
    (run,) = shop.wait_for(trace)
    assert len(shop.calls(CODER, title)) == 2
    (reviewed,) = [e.event for e in run.entries if e.topic == "ai_verified_solutions"]
    why = "the same as in round 1" if says == "the same" else "expected_is_wrong is true"
    assert why in reviewed.ended
    assert shop.rows()[trace]["cause"] == f"output differs; {reviewed.ended}"
    assert reviewed.ended in shop.run("trace", trace).out


def test_a_later_task_is_written_with_the_lessons_of_an_earlier_one_like_it(shop: Shop) -> None:
    early = {**ECHO, "title": "Hedgehog", "task": "Print the hedgehogs of a garden by weight."}
    late = {**early, "title": "Hedgehogs", "task": "Print the hedgehogs of a garden by their age."}
    slip = json.dumps({"code": "print(input()[1])", "explanation": "It prints the second."})
    shop.script(
        "Hedgehog",
        {"fault": "answer", "instructions": CODER, "content": slip},
        {"fault": "answer", "instructions": CODER, "content": ECHOES},
    )
    (first,) = shop.begin(early)
    shop.wait_for(first)
    shop.wait_for_notes()
    (second,) = shop.begin(late)
    shop.wait_for(second)
    assert shop.rows()[first]["verdict"] == "PASS"
    written, mended, *_ = (prompt(one) for one in shop.calls(CODER, "Hedgehog"))
    assert "IndexError" not in written and "IndexError" in mended
    later = prompt(shop.calls(CODER, "Hedgehogs")[0])
    asked, _, lessons = later.partition("<lessons>\n")
    lessons = lessons.partition("\n</lessons>")[0]
    assert "by their age" in asked and "by weight" not in asked
    failure, success, *_ = sorted(lessons.splitlines())
    assert failure.startswith("- failure (alike by 0.") and "Hedgehog: exit code" in failure
    assert failure.endswith("IndexError: string index out of range")
    assert success.startswith("- pattern (alike by 0.") or success.startswith("- success")
    assert "Hedgehog: It prints what it reads." in lessons


def test_the_producer_gets_what_was_made_before(shop: Shop) -> None:
    titles = {"Made once", "Made twice"}
    shop.wait_for(*shop.begin(*({**ECHO, "title": title} for title in titles)))
    shop.wait_for_notes()
    # An idea is a run of its own, of the timer or anybody's.
    (trace,) = shop.submit_parts({"ai_ideas": "Small programs"})
    shop.wait_for(trace)
    (call,) = calls_of(shop.server, PRODUCER)
    asked, _, before = prompt(call).partition("<made_before>\n")
    assert "Small programs" in asked
    assert {f"- {title}" for title in titles} <= set(before.splitlines())
    # The made-up task has become a run's work, and its row.
    assert shop.rows()[trace]["title"] == calls_title(call)


def calls_title(call: dict[str, Any]) -> str:
    """What the scripted server answers where a text is asked for."""
    return str(call["key"][:8])


def test_many_programs_are_written_side_by_side(shop: Shop) -> None:
    shop.server.script(
        [{"fault": "timeout", "match": "At once", "instructions": CODER, "times": 12}]
    )
    shop.begin(*({**ECHO, "title": f"At once {n}"} for n in range(12)))
    # Twelve questions to the coder, and not one answer yet.
    wait_until(lambda: len(calls_of(shop.server, CODER, "At once")) == 12, "twelve calls")
    assert not any(call["answered"] for call in calls_of(shop.server, CODER, "At once"))


def test_the_row_of_a_hostile_answer_is_text_to_a_spreadsheet(shop: Shop) -> None:
    bad = '=HYPERLINK("http://x";"y")'
    code = {"code": "print(input())", "explanation": f"+{bad}"}
    review = {"score": 7, "findings": ["fine"], "critique": f"@{bad}"}
    shop.script(
        bad,
        {"fault": "answer", "instructions": CODER, "content": json.dumps(code)},
        {"fault": "none", "instructions": GLANCE},
        {"fault": "answer", "instructions": REVIEWER, "content": json.dumps(review)},
    )
    (trace,) = shop.begin({**ECHO, "title": bad})
    shop.wait_for(trace)
    row = shop.rows()[trace]
    assert (row["title"], row["explanation"]) == (f"'{bad}", f"'+{bad}")
    assert (row["verdict"], row["critique"]) == ("PASS", f"'@{bad}")


@pytest.mark.parametrize("marked", [False, True], ids=["reasoning_content", "think"])
def test_what_an_agent_thinks_is_reported_in_telemetry_and_is_no_part_of_its_answer(
    shop: Shop, marked: bool
) -> None:
    thought, title = "First I look at the edges.", f"Thought over {marked}"
    fault: dict[str, Any] = {"fault": "answer", "instructions": CODER}
    if marked:
        fault["content"] = f"<think>\n{thought}\n</think>\n{ECHOES}"
    else:
        fault |= {"content": ECHOES, "reasoning": thought}
    shop.script(title, fault)
    # In prose, too, where nothing else would take it out.
    glance = f"<think>{thought}</think>\n\nIt looks short."
    shop.script(title, {"fault": "answer", "instructions": GLANCE, "content": glance})
    (trace,) = shop.begin({**ECHO, "title": title})
    (run,) = shop.wait_for(trace)
    reports = [entry.event for entry in run.entries if entry.topic == "ai_telemetry"]
    by_coder = [one.parts["ai_telemetry"] for one in reports if one.agent == "coder"]
    assert [one["thinking"] for one in by_coder] == [thought]
    assert by_coder[0]["kind"] == "agent" and by_coder[0]["reads"] == "ai_topic"
    made = [entry.event.parts for entry in run.entries if entry.topic != "ai_telemetry"]
    assert thought not in json.dumps(made) and "think>" not in json.dumps(made)
    assert shop.rows()[trace]["verdict"] == "PASS"
    (look,) = [
        one for one in reports if one.agent == "reviewer" and one.stage.endswith("glance_stream")
    ]
    assert look.parts["ai_telemetry"] == "It looks short."
