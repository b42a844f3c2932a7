"""The index: runs and steps as they are found, listed and summed, and how it is filled."""

import os
import pathlib
import stat
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from penstock.broker.contract import Row
from penstock.broker.embedded.file import SHIFT
from penstock.broker.embedded.writer import read_end
from penstock.broker.tp import TP
from penstock.client import Client
from penstock.errors import NotFound, SettingsError, StepFailed
from penstock.journal import MODEL, TOOL, Call
from penstock.project.project import Project, read_project
from penstock.record import dead_letters, events, steps
from penstock.record.dead_letters import DROPPED, REPLAYED, DeadLetter
from penstock.record.events import Event, Usage, derive_id, first_event
from penstock.record.steps import StepRecord, Try
from penstock.runs import filling
from penstock.runs.index import Bound, Filter, Index, RunRow
from penstock.settings import Settings
from tests.unit.conftest import CHAIN, make_project

READERS = {
    "idea": "tale_teller_idea",
    "draft": "tale_teller_polish_draft",
    "text": "tale_present_text",
}
NEXT = {"idea": "draft", "draft": "text"}
MODEL_NAME = "openai/large"


class Desk:
    """The topics of a project without a worker: what one would write is written here."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.broker = client.broker
        self.index = client.index
        self.plan = client.project.plan("penstock")
        self.now = 1_000_000.0

    def begin(self, idea: str = "a snail", trace_id: str | None = None, **tags: str) -> Event:
        event = first_event("tale", {"idea": idea}, trace_id, tags=tags)
        event = msgspec.structs.replace(event, created=self.now)
        self.put("idea", event)
        return event

    def put(self, topic: str, *made: Event) -> None:
        self.broker.append([Row(topic, event.key, events.dump(event)) for event in made])

    def output(self, topic: str, event: Event, text: str, **fields: Any) -> Event:
        """The event that the reader of `topic` makes of `event`."""
        stage, to = READERS[topic], NEXT[topic]
        self.now += 1.0
        given = {"parts": event.parts | {to: text}, "parent_id": event.id, "stage": stage}
        made = msgspec.structs.replace(
            event, id=derive_id(event.id, stage, to), created=self.now, **given, **fields
        )
        self.put(to, made)
        return made

    def record(self, topic: str, event: Event, **fields: Any) -> StepRecord:
        """The record of the step of the reader of `topic`, not written yet."""
        stage = READERS[topic]
        given: dict[str, Any] = {
            "does": "teller", "taken": self.now, "ended": self.now + 0.5, **fields
        }  # fmt: skip
        at: dict[str, Any] = {"topic": topic, "partition": 0, "offset": 0, "replay": event.replay}
        return StepRecord(
            trace_id=event.trace_id, event=event.id, pipeline="tale", stage=stage,
            **at, **given,
        )  # fmt: skip

    def write(self, *records: StepRecord) -> None:
        self.broker.append([Row(self.plan.steps, b"", steps.joined([*map(steps.dump, records)]))])

    def finish(self, topic: str, event: Event, **fields: Any) -> None:
        self.write(self.record(topic, event, **fields))

    def run_tale(self, idea: str = "a snail", **tags: str) -> Event:
        """A run that is done; its first event."""
        event = self.begin(idea, **tags)
        draft = self.output("idea", event, f"{idea}: once upon a time")
        text = self.output("draft", draft, f"{idea}: the end")
        self.write(
            self.record("idea", event), self.record("draft", draft), self.record("text", text)
        )
        return event

    def kill(self, topic: str, event: Event, resolved: str = "") -> DeadLetter:
        error = StepFailed("no snail today")
        message = type("Message", (), {
            "topic": topic, "partition": 0, "offset": 0, "key": event.key,
            "value": events.dump(event),
        })  # fmt: skip
        dead_letter = dead_letters.write("tale", READERS[topic], message, event, error, 3)
        dead_letter = msgspec.structs.replace(dead_letter, resolved=resolved)
        self.broker.append([Row(self.plan.dead_letters, event.key, dead_letters.dump(dead_letter))])
        return dead_letter

    def find(self, **wanted: Any) -> list[RunRow]:
        self.index.refresh()
        return self.index.find(Filter(**wanted))

    def ids(self, **wanted: Any) -> list[str]:
        return [row.trace_id for row in self.find(**wanted)]

    def state(self, event: Event) -> str:
        (row,) = (row for row in self.find() if row.trace_id == event.trace_id)
        return row.state


@pytest.fixture
def client(tmp_path: pathlib.Path, project: Project) -> Iterator[Client]:
    client = Client(Settings(data=tmp_path / "data"), project)
    yield client
    client.close()


@pytest.fixture
def desk(client: Client) -> Desk:
    return Desk(client)


def test_an_index_of_nothing_has_no_runs(desk):
    assert desk.find() == []
    assert desk.index.costs("model") == []
    assert stat.S_IMODE(os.stat(desk.index.path).st_mode) == 0o600


def test_a_run_is_listed_from_its_first_event_on(desk):
    event = desk.begin("a snail\nthat flies", customer="42")
    (row,) = desk.find()
    assert (row.trace_id, row.pipeline, row.state) == (event.trace_id, "tale", "running")
    assert (row.line, row.stage, row.began) == ("a snail", "idea", event.created)
    assert row.tags == {"customer": "42"}
    assert (row.cost, row.input_tokens) == (0.0, 0)


def test_a_run_is_running_until_each_stage_has_left_a_record(desk):
    event = desk.begin()
    draft = desk.output("idea", event, "once")
    desk.finish("idea", event)
    assert desk.state(event) == "running"
    text = desk.output("draft", draft, "the end")
    desk.finish("draft", draft)
    assert desk.state(event) == "running"
    desk.finish("text", text)
    assert desk.state(event) == "done"
    (row,) = desk.find()
    assert (row.stage, row.last) == ("text", desk.now + 0.5)


def test_a_run_of_an_earlier_version_is_as_the_broker_says(desk):
    """Its stages have finished its events, and have left no record of that."""
    event = desk.begin()
    assert desk.state(event) == "running"
    store = desk.broker.store
    tp = TP("idea", store.partition_of("idea", event.key))
    store.finish(READERS["idea"], tp, 0)
    store.commit_now()
    assert desk.state(event) == "done"
    desk.now += 10
    desk.run_tale("newer")
    assert sorted(row.state for row in desk.find()) == ["done", "done"]


def test_what_only_newer_stages_leave_is_not_asked_of_the_broker(desk, monkeypatch):
    desk.run_tale()
    desk.now += 10
    event = desk.begin()
    monkeypatch.setattr(desk.broker, "is_done", lambda *_: pytest.fail("asked"))
    assert desk.state(event) == "running"


def test_a_dead_letter_makes_its_run_dead_until_it_is_replayed(desk):
    event = desk.begin()
    desk.kill("idea", event)
    assert desk.state(event) == "running", "its step has not ended"
    desk.finish("idea", event, end=steps.DEAD)
    assert desk.state(event) == "dead"
    desk.kill("idea", event, DROPPED)
    assert desk.state(event) == "dead"
    again = msgspec.structs.replace(event, replay=1, only=READERS["idea"])
    desk.put("idea", again)
    desk.kill("idea", event, REPLAYED)
    assert desk.state(event) == "running"
    desk.finish("idea", again)
    assert desk.state(event) == "done"


def test_a_dead_letter_without_events_is_a_dead_run(desk):
    event = first_event("tale", {"idea": "x"})
    desk.kill("idea", event)
    (row,) = desk.find()
    assert (row.state, row.pipeline, row.line) == ("dead", "tale", "StepFailed: no snail today")


def test_a_cancelled_run_is_cancelled_once_nothing_runs_any_more(desk):
    event = desk.begin()
    desk.broker.cancel(event.key, b"{}")
    assert desk.state(event) == "running"
    desk.finish("idea", event, end=steps.CANCELLED)
    assert desk.state(event) == "cancelled"


def test_a_repeat_changes_nothing(desk):
    event = desk.begin()
    call = Call(MODEL, MODEL_NAME, "k", 1.0, 2.0, input_tokens=5, output_tokens=7, cost=0.5)
    desk.finish("idea", event, calls=[call])
    desk.put("idea", event)
    desk.finish("idea", event, calls=[call])
    before = desk.find()
    desk.put("idea", event)
    desk.finish("idea", event, calls=[call])
    assert desk.find() == before
    (row,) = before
    assert (row.cost, row.input_tokens, row.output_tokens) == (0.5, 5, 7)
    assert len(desk.index.steps(event.trace_id)) == 1


def test_what_is_none_of_ours_is_left_out(desk, caplog):
    desk.broker.append(
        [
            Row("idea", b"k", b"no event"),
            Row(desk.plan.steps, b"", b"no records"),
            Row(desk.plan.dead_letters, b"k", b"no dead letter"),
        ]
    )
    event = desk.run_tale()
    assert desk.ids() == [event.trace_id]
    assert caplog.text.count("is left out of the index") == 2


def test_runs_are_found_by_each_filter_and_the_newest_are_first(desk):
    first = desk.run_tale("a snail", customer="42")
    desk.now += 100
    second = desk.begin("a whale", customer="43")
    dear = Call(MODEL, MODEL_NAME, "k", 1.0, 2.0, cost=0.25)
    desk.finish("idea", second, card="teller@0123", calls=[dear], end=steps.DONE)
    desk.now += 50
    third = desk.begin("an eel")
    one, two, three = (event.trace_id for event in (first, second, third))
    assert desk.ids() == [three, two, one]
    assert desk.ids(pipeline="tale") == [three, two, one]
    assert desk.ids(pipeline="other") == []
    assert desk.ids(state="done") == [two, one]
    assert desk.ids(state="running") == [three]
    assert desk.ids(card="teller") == desk.ids(card="teller@0123") == [two]
    assert desk.ids(card="tell") == []
    assert desk.ids(model=MODEL_NAME) == [two]
    assert desk.ids(cost=Bound(">", 0.2)) == [two]
    assert desk.ids(cost=Bound("<", 0.2)) == [three, one]
    assert desk.ids(took=Bound(">", 1.0)) == [three, one]
    assert desk.ids(since=second.created) == [three, two]
    assert desk.ids(tags={"customer": "42"}) == [one]
    assert desk.ids(tags={"customer": "44"}) == []
    assert desk.ids(text="whale") == [two]


def test_text_is_what_an_event_adds_and_each_word_may_be_of_another(desk):
    event = desk.begin("the rain in Spain")
    desk.output("idea", event, "Once, it stayed in the Plain. “Déjà vu”")
    assert desk.ids(text="rain plain") == [event.trace_id]
    assert desk.ids(text='"rain in spain"') == [event.trace_id]
    assert desk.ids(text='"rain in the plain"') == []
    assert desk.ids(text="deja") == [event.trace_id]
    for harmless in ('"', "a OR b", "NEAR(", "text:x*", "-", "^"):
        desk.ids(text=harmless)


def test_pages_go_on_after_a_row(desk):
    for number in range(7):
        desk.begin(str(number))  # all at the same time
    desk.index.refresh()
    seen, after = [], None
    while page := desk.index.find(limit=3, after=after):
        seen += [row.line for row in page]
        after = page[-1].page
    assert len(seen) == 7 and len(set(seen)) == 7


def test_a_price_that_is_not_known_makes_no_cost_of_nothing(desk):
    event = desk.begin()
    known = Call(MODEL, "openai/large", "a", 1.0, 2.0, input_tokens=1, cost=0.5)
    unknown = Call(MODEL, "openai/strange", "b", 1.0, 2.0, input_tokens=2)
    # In the next try of the step: it was paid once.
    recalled = Call(MODEL, "openai/large", "a", 1.0, 2.0, True, input_tokens=1, cost=0.5)
    tool = Call(TOOL, "look_up", "d", 1.0, 2.0)
    pause = Try(began=1.0, ended=2.0, error="busy", pause_s=1.0)
    desk.finish("idea", event, calls=[known, unknown, recalled, tool], tries=[pause])
    (row,) = desk.find()
    assert row.cost is None
    assert (row.saved, row.recalled, row.retries, row.input_tokens) == (0.5, 1, 1, 3)
    assert desk.ids(cost=Bound(">", 0.4)) == [event.trace_id], "it costs at least what is known"
    assert desk.ids(cost=Bound("<", 0.6)) == []
    assert desk.index.unpriced() == ["openai/strange"]
    by_model = {one.name: one for one in desk.index.costs("model")}
    assert by_model["openai/large"].cost == 0.5 and by_model["openai/large"].saved == 0.5
    assert by_model["openai/strange"].unpriced == 1
    (by_card,) = desk.index.costs("card")
    assert (by_card.name, by_card.calls, by_card.recalled, by_card.runs) == ("teller", 2, 1, 1)
    assert desk.index.costs("tag") == []
    assert [one.name for one in desk.index.costs("day")] == ["1970-01-01"]
    assert [one.name for one in desk.index.costs("pipeline")] == ["tale"]


def test_costs_are_summed_by_tag(desk):
    call = Call(MODEL, MODEL_NAME, "k", 1.0, 2.0, cost=0.5)
    for customer in ("1", "1", "2"):
        event = desk.begin(customer=customer, region="north")
        desk.finish("idea", event, calls=[call])
    desk.index.refresh()
    costs = {one.name: (one.cost, one.runs) for one in desk.index.costs("tag")}
    assert costs == {"customer=1": (1.0, 2), "customer=2": (0.5, 1), "region=north": (1.5, 3)}


def test_events_without_records_say_what_they_used(desk):
    event = desk.begin()
    usage = Usage(model=MODEL_NAME, requests=1, input_tokens=3, output_tokens=4)
    desk.output("idea", event, "once", usage=usage, agent="teller", card="teller@0123", attempt=3)
    (row,) = desk.find()
    assert (row.input_tokens, row.output_tokens, row.retries) == (3, 4, 2)
    assert row.cost is None
    assert (row.cards, row.models) == (("teller", "teller@0123"), (MODEL_NAME,))
    desk.finish("idea", event, card="teller@0123")
    (row,) = desk.find()
    assert (row.input_tokens, row.cost) == (0, 0.0), "its record says more"


def test_steps_are_in_the_order_in_which_they_were_taken(desk):
    event = desk.begin()
    draft = desk.output("idea", event, "once")
    later = desk.record("draft", draft, taken=20.0)
    sooner = desk.record("idea", event, taken=10.0)
    desk.write(later, sooner)
    desk.index.refresh()
    assert desk.index.steps(event.trace_id) == [sooner, later]
    assert desk.index.steps("nobody") == []


def test_a_run_is_found_by_the_beginning_of_its_id(desk):
    ids = [f"abcd{number}000-0000-4000-8000-000000000000" for number in range(7)]
    for id_ in ids:
        desk.begin(trace_id=id_)
    desk.index.refresh()
    assert desk.index.resolve("abcd3") == ids[3]
    assert desk.index.resolve("ABCD4") == ids[4]
    whole = str(uuid.uuid4())
    assert desk.index.resolve(whole.upper()) == whole, "whatever there is"
    with pytest.raises(NotFound, match=r"several runs begin with 'abcd': abcd.* \(tale, running\)"):
        desk.index.resolve("abcd")
    with pytest.raises(NotFound, match="there is no run whose trace id begins with 'ffff'"):
        desk.index.resolve("ffff")
    for wrong in ("abc", "story", "abcd%", ""):
        with pytest.raises(NotFound, match="is not a trace id: it is a UUID, or at least 4"):
            desk.index.resolve(wrong)


# -- how it is filled


def test_it_is_filled_in_small_steps_and_says_how_far_it_is(desk, monkeypatch):
    monkeypatch.setattr(filling, "BATCH", 2)
    ids = {desk.run_tale(str(number)).trace_id for number in range(5)}
    said: list[tuple[int, int]] = []
    desk.index.refresh(lambda done, total: said.append((done, total)))
    assert said[0] == (0, 20) and said[-1] == (20, 20)
    assert said == sorted(said)
    rows = desk.find()
    assert {row.trace_id for row in rows} == ids
    assert {row.state for row in rows} == {"done"}


def test_it_goes_on_where_it_was(desk, client, monkeypatch):
    first = desk.run_tale()
    desk.index.refresh()
    second = desk.run_tale()
    other = Index(client.settings, client.project, client.broker)
    said: list[tuple[int, int]] = []
    other.refresh(lambda done, total: said.append((done, total)))
    assert said[-1] == (4, 4)
    assert {row.trace_id for row in other.find()} == {first.trace_id, second.trace_id}
    desk.index.refresh(lambda done, total: said.append((done, total)))
    assert said[-1] == (0, 0), "the other has read it for both"
    other.close()


@pytest.mark.parametrize("damage", ["garbage", "cut", "gone", "older", "of another app", "emptied"])
def test_a_file_that_cannot_be_used_is_made_anew(desk, client, damage):
    event = desk.run_tale()
    desk.index.refresh()
    path = desk.index.path
    if damage in ("older", "of another app"):
        db = desk.index._filler.open()
        db.execute("pragma user_version = 99" if damage == "older" else
                   "update about set value = 'x' where name = 'of'")  # fmt: skip
    desk.index.close()
    match damage:
        case "garbage":
            path.write_bytes(b"garbage" * 1000)
        case "cut":
            path.write_bytes(path.read_bytes()[:9000])
        case "gone":
            path.unlink()
        case "emptied":
            path.write_bytes(b"")
    assert desk.ids() == [event.trace_id]
    (row,) = desk.index.find(Filter(text="snail"))
    assert row.state == "done"


def test_a_file_that_is_damaged_under_way_is_made_anew(desk):
    event = desk.run_tale()
    assert desk.ids() == [event.trace_id]
    size = desk.index.path.stat().st_size
    desk.index.path.with_name("index.db-wal").write_bytes(b"")
    desk.index.path.write_bytes(b"garbage" * (size // 7))
    for _ in range(2):
        assert [row.trace_id for row in desk.index.find(Filter(text="snail"))] == [event.trace_id]
        assert desk.index.read(event.trace_id).state == "done"


def test_topics_that_begin_anew_are_read_anew(desk, client, tmp_path, project):
    desk.run_tale()
    desk.index.refresh()
    client.close()
    for file in (tmp_path / "data").glob("penstock.db*"):
        file.unlink()
    fresh = Desk(Client(client.settings, project))
    event = fresh.begin("another")
    assert fresh.ids() == [event.trace_id]
    fresh.client.close()


def test_a_chain_that_was_edited_changes_what_a_run_waits_for(desk, client, tmp_path):
    event = desk.begin()
    draft = desk.output("idea", event, "once")
    desk.write(desk.record("idea", event), desk.record("draft", draft))
    assert desk.state(event) == "done"
    more = CHAIN.replace("seed:", "  - {reads: draft, step: present, name: show}\nseed:")
    edited = read_project(make_project(tmp_path / "project", more))
    edited.require_sound()
    other = Desk(Client(client.settings, edited))
    assert other.state(event) == "running"
    other.client.close()


def test_what_retention_has_deleted_is_gone_from_the_index(desk):
    old = desk.run_tale("an old snail", customer="42")
    half = desk.begin("a half old snail")
    desk.index.refresh()
    desk.now += 1000
    draft = desk.output("idea", half, "half")
    desk.write(desk.record("idea", half), desk.record("draft", draft))
    new = desk.run_tale("a new snail")
    assert len(desk.find(text="snail")) == 3
    store = desk.broker.store
    for record in desk.broker.find("idea", old.key) + desk.broker.find("draft", old.key):
        _delete(store, record)
    for record in desk.broker.find("text", old.key) + desk.broker.find("idea", half.key):
        _delete(store, record)
    desk.index.refresh()
    assert len(desk.index.find()) == 3, "it looks once a minute"
    desk.index.forget_every_s = 0.0
    desk.index.refresh()
    assert desk.ids() == [new.trace_id, half.trace_id]
    assert desk.ids(text="old") == [] and desk.ids(text="half") == [half.trace_id]
    assert desk.index.steps(old.trace_id) == []
    assert desk.ids(tags={"customer": "42"}) == []


def _delete(store: Any, record: Any) -> None:
    """As the worker deletes it, which remembers the offsets that were given out."""
    part = store.part(TP(record.topic, record.partition))
    floor = "update part set floor = max(floor, ?) where id = ?"
    store.writer.run(lambda db: db.execute(floor, (read_end(db, part), part)))
    id_ = (part << SHIFT | record.offset,)
    store.writer.run(lambda db: db.execute("delete from record where id = ?", id_))


def test_tags_are_checked_before_a_run_begins(client):
    with client as plain:
        trace_id = plain.submit("tale", {"idea": "x"}, tags={"customer": "42"})
        assert plain.read(trace_id).entries[0].event.tags == {"customer": "42"}
        for tags in ({"a b": "1"}, {"": "1"}, {"a": ""}, {"a": "x" * 201}, {"a": 1}):
            with pytest.raises(SettingsError, match="the tag "):
                plain.submit("tale", {"idea": "x"}, tags=tags)
