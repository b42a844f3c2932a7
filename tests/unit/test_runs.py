"""Runs: what the topics tell of a run, at any moment of it."""

import uuid
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from faust.types import TP, ConsumerMessage

from penstock.broker.contract import Found
from penstock.broker.embedded.broker import EmbeddedBroker
from penstock.broker.embedded.store import Store
from penstock.errors import NotFound, StepFailed
from penstock.project.project import Project, read_project
from penstock.record import dead_letters as deadletters
from penstock.record import events
from penstock.record.dead_letters import DeadLetter
from penstock.record.events import Event, derive_id, first_event
from penstock.runs.runs import DEAD, DONE, RUNNING, Entry, Run, Runs
from penstock.settings import Settings
from tests.unit.conftest import CHAIN, Opener, make_project

TRACE = "0f8fad5b-d9cb-469f-a165-70867728950e"
READERS = {
    "idea": "tale_teller_idea",
    "draft": "tale_teller_polish_draft",
    "text": "tale_present_text",
}


def event(stage: str, parent: Event | None = None, created: float = 0.0, **parts: Any) -> Event:
    parent_id = parent.id if parent else None
    return Event(
        id=derive_id(parent_id or TRACE, stage, "x"), trace_id=TRACE, pipeline="tale",
        stage=stage, parent_id=parent_id, parts=parts, created=created,
    )  # fmt: skip


IDEA = event("submit", created=1.0, idea="a snail")
DRAFT = event("tale_teller_idea", IDEA, 2.0, idea="a snail", draft="once")
TEXT = event("tale_teller_polish_draft", DRAFT, 3.0, idea="a snail", draft="once", text="Once")


class Desk:
    """A project's topics, and somebody who works on them in another process."""

    def __init__(self, store: Store, project: Project) -> None:
        self.store = store
        self.project = project
        for topic in (*READERS, "penstock-dead-letters"):
            store.create(topic, 3)

    def runs(self, broker: EmbeddedBroker) -> Runs:
        return Runs(Settings(), self.project, broker)

    def put(self, topic: str, made: Event) -> tuple[TP, int]:
        tp = TP(topic, self.store.partition_of(topic, made.key))
        self.store.append(tp, 0, made.key, events.dump(made))
        return tp, self.store.commit_now().offsets[0]

    def finish(self, topic: str, *outputs: tuple[str, Event], offset: int = 0) -> None:
        """The reader of `topic` has finished the run's event there, and made `outputs`."""
        tp = TP(topic, self.store.partition_of(topic, TRACE.encode()))
        rows = [
            (TP(name, self.store.partition_of(name, made.key)), 0, made.key, events.dump(made))
            for name, made in outputs
        ]
        self.store.finish(READERS[topic], tp, offset, rows)
        self.store.commit_now()

    def write_dead_letter(self, topic: str, made: Event) -> DeadLetter:
        tp = TP(topic, self.store.partition_of(topic, made.key))
        message = ConsumerMessage(
            topic, tp.partition, 0, 0.0, 0, [], made.key, events.dump(made), None, tp=tp
        )
        dead_letter = deadletters.write("tale", READERS[topic], message, made, StepFailed("no"), 3)
        partition = TP("penstock-dead-letters", 0)
        partition = TP(partition.topic, self.store.partition_of(partition.topic, made.key))
        self.store.append(partition, 0, made.key, deadletters.dump(dead_letter))
        self.store.commit_now()
        return dead_letter


@pytest.fixture
def desk(open_store: Opener, project: Project) -> Desk:
    return Desk(open_store(), project)


@pytest.fixture
def runs(desk: Desk, open_broker: Callable[..., EmbeddedBroker]) -> Runs:
    """The read model, on connections of its own."""
    return desk.runs(open_broker())


def test_a_run_that_was_submitted_waits_for_its_first_stage(desk, runs):
    desk.put("idea", IDEA)
    run = runs.read(TRACE)
    (entry,) = run.entries
    assert (run.trace_id, run.pipeline, run.state) == (TRACE, "tale", RUNNING)
    assert (entry.topic, entry.offset, entry.event) == ("idea", 0, IDEA)
    assert entry.waits_for == ("tale_teller_idea",)


def test_a_run_is_running_until_its_last_stage_has_ended(desk, runs):
    desk.put("idea", IDEA)
    desk.finish("idea", ("draft", DRAFT))
    desk.finish("draft", ("text", TEXT))
    run = runs.read(TRACE)
    assert [entry.topic for entry in run.entries] == ["idea", "draft", "text"]
    assert [entry.waits_for for entry in run.entries] == [(), (), ("tale_present_text",)]
    assert run.state == RUNNING
    desk.finish("text")
    run = runs.read(TRACE)
    assert (run.state, run.answer) == (DONE, "Once")


def test_a_step_that_answered_none_ends_its_run(desk, runs):
    desk.put("idea", IDEA)
    desk.finish("idea")
    assert runs.read(TRACE).state == DONE


def test_a_dead_letter_makes_its_run_dead_once_nothing_runs_any_more(desk, runs):
    desk.put("idea", IDEA)
    desk.finish("idea", ("draft", DRAFT))
    dead_letter = desk.write_dead_letter("draft", DRAFT)
    run = runs.read(TRACE)
    assert (run.state, run.dead_letters) == (RUNNING, (dead_letter,)), (
        "its offset is not finished yet"
    )
    desk.finish("draft")
    assert runs.read(TRACE).state == DEAD


def test_a_run_of_which_only_its_dead_letter_is_left_can_be_read(desk, runs):
    dead_letter = desk.write_dead_letter("idea", IDEA)
    run = runs.read(TRACE)
    assert (run.state, run.pipeline, run.entries, run.dead_letters) == (
        DEAD,
        "tale",
        (),
        (dead_letter,),
    )


def test_other_runs_and_records_that_are_no_events_are_left_out(desk, runs):
    desk.put("idea", IDEA)
    for made in (first_event("tale", {"idea": "other"}) for _ in range(5)):
        desk.put("idea", made)
    tp = TP("idea", desk.store.partition_of("idea", TRACE.encode()))
    for raw in (b"hello", b"\xff", b"[" * 100_000):
        desk.store.append(tp, 0, TRACE.encode(), raw)
    desk.store.commit_now()
    assert [entry.event for entry in runs.read(TRACE).entries] == [IDEA]


def test_a_run_is_of_the_pipeline_on_whose_topics_it_is_whatever_its_events_say(desk, runs):
    desk.put("idea", msgspec.structs.replace(IDEA, pipeline="orders"))
    assert runs.read(TRACE).pipeline == "tale"


def test_an_event_under_the_key_of_another_run_is_no_part_of_that(desk, runs):
    desk.put("idea", IDEA)
    tp = TP("idea", desk.store.partition_of("idea", TRACE.encode()))
    desk.store.append(tp, 0, TRACE.encode(), events.dump(first_event("tale", {"idea": "other"})))
    desk.store.commit_now()
    assert [entry.event for entry in runs.read(TRACE).entries] == [IDEA]


def test_a_run_that_is_not_there_is_named(runs):
    trace_id = str(uuid.uuid4())
    with pytest.raises(NotFound, match=f"there is no run {trace_id} on the topics"):
        runs.read(trace_id)


def test_dead_letters_of_all_runs_are_listed_in_the_order_in_which_they_were_written(desk, runs):
    made = [desk.write_dead_letter("idea", first_event("tale", {"idea": str(n)})) for n in range(6)]
    assert [dead_letter for _, dead_letter in runs.dead_letters()] == made
    key = made[3].trace_id.encode()
    assert [dead_letter for _, dead_letter in runs.dead_letters(key)] == [made[3]]


def test_a_run_that_moves_on_while_it_is_read_is_not_taken_for_done(
    tmp_path, open_store, open_broker
):
    """The topics of a file stand in any order. Here the last is read first, and a stage ends
    between the two looks: the run has no unfinished event on what was read, and is not over."""
    backwards = CHAIN.replace("  idea: What it is about\n", "").replace(
        "  text: The finished text\n",
        "  text: The finished text\n  idea: What it is about\nentry: idea\n",
    )
    backwards = backwards.replace("  draft: A first version\n", "").replace(
        "  idea: What", "  draft: A first version\n  idea: What"
    )
    project = read_project(make_project(tmp_path / "backwards", backwards))
    assert project.problems == []
    assert list(project.chain("tale").topics) == ["text", "draft", "idea"]
    desk = Desk(open_store(), project)
    desk.put("idea", IDEA)

    class Slow(EmbeddedBroker):
        """Between its looks at two topics, a worker goes on."""

        moved = False

        def find(self, topic: str, key: bytes | None, start: int = 0) -> list[Found]:
            found = super().find(topic, key, start)
            if topic == "draft" and not self.moved:
                self.moved = True
                desk.finish("idea", ("draft", DRAFT))
            return found

    runs = desk.runs(open_broker(Slow))
    run = runs.read(TRACE)
    assert run.state == RUNNING
    assert [entry.topic for entry in run.entries] == ["idea"]
    run = runs.read(TRACE)
    assert [entry.waits_for for entry in run.entries] == [(), (READERS["draft"],)]


# -- Run


def entry(made: Event, topic: str = "draft", *waits_for: str) -> Entry:
    return Entry(topic, 0, 0, made, waits_for)


def test_children_are_the_events_that_were_made_from_one():
    two = event("other", IDEA, 2.5)
    run = Run(TRACE, "tale", tuple(entry(e) for e in (IDEA, DRAFT, two, TEXT)), ())
    assert [e.event for e in run.children(None)] == [IDEA]
    assert [e.event for e in run.children(IDEA.id)] == [DRAFT, two]
    assert [e.event for e in run.children(DRAFT.id)] == [TEXT]
    assert run.children(TEXT.id) == []


def test_what_is_left_of_a_run_hangs_from_the_root():
    """Retention has deleted the first events: the rest is still shown, once."""
    run = Run(TRACE, "tale", (entry(DRAFT), entry(TEXT)), ())
    assert [e.event for e in run.children(None)] == [DRAFT]
    assert [e.event for e in run.children(DRAFT.id)] == [TEXT]
