"""Results: what a run was for, and what is said of one that has nothing to show."""

import io
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from penstock.commands.runs import run_as_dict, show_answer
from penstock.commands.screens import Screen, run_tree
from penstock.project.chain_files import read_chain
from penstock.project.chains import Chain
from penstock.record.events import Event, Usage, derive_id
from penstock.runs.runs import Entry, Run
from tests.unit.test_chains import read, read_any, refused

__all__ = ["read", "read_any", "refused"]

TRACE = "0f8fad5b-d9cb-469f-a165-70867728950e"
#: A reply that is written again until it passes; its answer is remarked on and reported.
DESK = """\
pipeline: desk
topics:
  ticket: What somebody wants
  kept: Tickets that are worth an answer
  reply: What they are answered
  sent: Replies that pass
  remark: What somebody thinks of it
  activity: What was done
telemetry: activity
stages:
  - {reads: ticket, agent: triage, name: triage, part: kind, by: kind, outcomes: {SPAM: {}, else: {writes: kept}}}
  - {reads: kept, agent: clerk, name: clerk, writes: reply}
  - reads: reply
    step: measure
    name: measure
    part: measured
    by: verdict
    outcomes: {FITS: {writes: sent}, LONG: {writes: kept, at_most: 1}}
  - {reads: reply, agent: boss, name: glance, writes: activity}
  - {reads: sent, agent: boss, name: boss, check: worth_it, writes: remark}
  - {reads: remark, step: file_it, name: filer}
"""  # noqa: E501
TICKET, KEPT, REPLY, SENT, REMARK = "ticket", "kept", "reply", "sent", "remark"
#: Topic and stage of each event of a run, and the part that the stage made.
STEPS: list[tuple[str, str, dict[str, Any]]] = [
    (TICKET, "submit", {"ticket": "It is broken"}),
    (KEPT, "triage", {"kind": {"kind": "OTHER"}}),
    (REPLY, "clerk", {"reply": "We are very sorry to hear that"}),
    (KEPT, "measure", {"measured": {"verdict": "LONG"}}),
    (REPLY, "clerk", {"reply": "Sorry"}),
    (SENT, "measure", {"measured": {"verdict": "FITS"}}),
    (REMARK, "boss", {"remark": "Fine"}),
]


@pytest.fixture
def run(tmp_path: pathlib.Path) -> Callable[..., Run]:
    """Makes a run of so many of the steps, which is over; with `result` in its chain."""

    def run_(steps: int, result: str = "", text: str = DESK, **rounds: int) -> Run:
        file = tmp_path / "desk.yaml"
        file.write_text(f"result: {result}\n{text}" if result else text)
        chain, _ = read_chain(file)
        assert chain is not None
        return made_of(chain, STEPS[:steps], rounds)

    return run_


def made_of(chain: Chain, steps: list[tuple[str, str, Any]], rounds: dict[str, int]) -> Run:
    entries: list[Entry] = []
    parts: dict[str, Any] = {}
    for index, (topic, stage, part) in enumerate(steps):
        parent = (
            events[-1] if (events := [e.event for e in entries if e.topic != "activity"]) else None
        )
        parts = {**parts, **part}
        event = Event(
            id=derive_id(TRACE, stage, topic, index), trace_id=TRACE, pipeline="desk", stage=stage,
            parent_id=parent.id if parent else None, parts=parts, created=float(index),
            usage=Usage() if parent else None,
            rounds={name.replace("_", "/"): count for name, count in rounds.items()},
        )  # fmt: skip
        entries.append(Entry(topic, 0, index, event, ()))
        if parent is not None:  # and what its agent did, on the telemetry
            entries.append(report(stage, parent, index))
        if topic == REPLY:  # which has a reader of its own that writes nothing else
            entries.append(report("glance", event, index))
    return Run(TRACE, "desk", tuple(entries), (), chain=chain)


def report(stage: str, parent: Event, index: int) -> Entry:
    event = Event(
        id=derive_id(parent.id, stage, "activity", index), trace_id=TRACE, pipeline="desk",
        stage=stage, parent_id=parent.id, parts={"activity": {"kind": "agent"}},
        created=index + 0.5,
    )  # fmt: skip
    return Entry("activity", 0, index, event, ())


@pytest.mark.parametrize(
    ("steps", "answer"),
    [
        (1, None),
        (2, {"kind": "OTHER"}),  # nothing else was made
        (3, "We are very sorry to hear that"),
        (4, "We are very sorry to hear that"),
        (5, "Sorry"),
        (6, "Sorry"),
        (7, "Fine"),
    ],
)
def test_the_answer_is_what_was_made_last_and_no_decision_no_ticket_no_telemetry(
    run, steps, answer
):
    assert run(steps).answer == answer


@pytest.mark.parametrize(
    ("result", "steps", "answer"),
    [
        ("reply", 7, "Sorry"),
        ("reply", 3, "We are very sorry to hear that"),
        ("reply", 2, None),
        ("kind", 7, {"kind": "OTHER"}),
        ("measured", 7, {"verdict": "FITS"}),
        ("sent", 7, "Sorry"),  # a topic whose events a decision makes
        ("sent", 5, None),
        ("kept", 7, "We are very sorry to hear that"),
    ],
)
def test_a_chain_names_the_part_or_the_topic_that_its_runs_are_for(run, result, steps, answer):
    assert run(steps, result).answer == answer
    assert run_as_dict(run(steps, result))["answer"] == answer


def test_a_fork_shows_what_it_was_given_until_it_makes_more(run):
    """Its first event has no parent in the run, and holds what the old run made."""
    chain = run(1, "reply").chain
    forked = [(SENT, "measure", {"reply": "Sorry", "measured": {"verdict": "FITS"}})]
    fork = made_of(chain, forked, {})
    first = fork.entries[0].event
    event = Event(
        **{name: getattr(first, name) for name in first.__struct_fields__} | {"usage": Usage()}
    )
    assert Run(TRACE, "desk", (Entry(SENT, 0, 0, event, ()),), (), chain=chain).answer == "Sorry"


def test_the_answer_of_a_stage_that_is_not_in_the_chain_any_more_is_found_by_its_topic(run):
    made = run(3)
    assert Run(TRACE, "desk", made.entries, ()).answer == {"kind": "agent"}, (
        "no chain, no telemetry"
    )
    assert Run(TRACE, "desk", made.entries[:4], ()).answer == "We are very sorry to hear that"


@pytest.mark.parametrize("word", ["reply", "kind", "sent"])
def test_a_result_is_a_part_or_a_topic_that_a_stage_makes(read, word):
    assert read(f"result: {word}\n{DESK}").result == word


@pytest.mark.parametrize(
    ("word", "hint"),
    [("repyl", " Did you mean 'reply'?"), ("ticket", " Did you mean 'kept'?"), ("activity", "")],
)
def test_a_result_that_nothing_makes_is_refused_with_the_one_meant(refused, word, hint):
    assert refused(f"result: {word}\n{DESK}") == (
        f"tale.yaml:1: '{word}' is nothing that a stage makes"
        f" (kind, reply, measured, remark, kept, sent).{hint}"
    )


def test_a_run_shows_what_it_was_for_and_what_was_made_of_that_since(run, capsys):
    show_answer(run(7, "reply"))
    shown = capsys.readouterr()
    assert shown.out == f"✅ Final Desk Output for Trace ID {TRACE}:\n\nSorry\n\nremark:\nFine\n"
    show_answer(run(7))
    assert capsys.readouterr().out.endswith(":\n\nFine\n")


def test_a_run_that_ended_by_an_outcome_says_which_and_never_shows_its_ticket(run, capsys):
    ended = "'triage' (triage) ended it by the outcome 'SPAM', which writes nothing."
    show_answer(run(1))
    assert capsys.readouterr().out == (
        f"✅ Desk is done for Trace ID {TRACE}; no topic has what it made.\n{ended}\n"
    )
    show_answer(run(1, "reply"))
    assert capsys.readouterr().out == (
        f"✅ Desk is done for Trace ID {TRACE}, and made no 'reply'.\n{ended}\n"
    )


def test_what_was_made_is_shown_beside_the_outcome_that_ended_the_run(run, capsys):
    show_answer(run(5, measure_LONG=1))
    shown = capsys.readouterr()
    assert shown.out.endswith("\n\nSorry\n")
    assert shown.err == (
        "'measure' (measure) ended it by the outcome 'LONG', which writes nothing.\n"
    )


def test_an_end_says_what_can_be_known_of_it(run):
    assert run(7).ends == [], "filed by its last step, as it should be"
    assert run(6).ends == ["'boss' (boss) was not asked: the check 'worth_it' ended it"]
    only = "pipeline: desk\ntopics: {ticket: }\nstages: [{reads: ticket, step: file_it, name: x}]\n"
    assert run(1, text=only).ends == ["'x' (file_it) was its last step, which writes no topic"]
    none = only.replace("name: x", "name: x, writes: kept").replace(
        "{ticket: }", "{ticket: , kept: }"
    )
    assert run(1, text=none).ends == ["'x' (file_it) gave nothing for 'kept', which ended it"]


def test_the_tree_of_a_run_shows_under_each_event_what_was_made_of_the_one_before(run):
    file = io.StringIO()
    Screen(file=file, width=100, highlight=False).print(run_tree(run(5)))
    lines = [line.strip(" │├└─") for line in file.getvalue().splitlines()]
    shown = [line for line in lines if line.startswith(("kind: O", "verdict: ", "We are", "Sorry"))]
    assert shown == ["kind: OTHER", "We are very sorry to hear that", "verdict: LONG", "Sorry"]
