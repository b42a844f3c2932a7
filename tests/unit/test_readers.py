"""Readers of a file whose chains were edited: nothing that was finished is taken up again."""

import time

import pytest
from faust.types import TP

from penstock.broker.contract import Beginning, Found, Pipeline, Plan, Unread
from penstock.broker.embedded.broker import EmbeddedBroker
from penstock.broker.embedded.renames import introduce, let_go, unread
from penstock.broker.embedded.retention import delete_finished
from penstock.broker.embedded.store import Store
from penstock.record.events import dump, first_event
from penstock.settings import Settings
from penstock.signals import StageJoined
from tests.unit.conftest import Opener

IDEA = TP("idea", 0)

PLAN = Plan("tale", (Pipeline("tale", "tale.yaml", ("idea", "draft")),), {"idea": ("teller",)})


@pytest.fixture
def store(open_store: Opener) -> Store:
    """A topic of six records, of which `teller` has finished the first two and the fourth."""
    store = open_store()
    for topic in ("idea", "draft"):
        store.create(topic, 2)
    assert introduce(store, {"idea": ["teller"]}) == []
    for _ in range(6):
        store.append(IDEA, 0, b"k", b"v")
    store.commit_now()
    for offset in (0, 1, 3):
        store.finish("teller", IDEA, offset)
    store.commit_now()
    return store


def unfinished(store: Store, reader: str) -> list[int]:
    position = store.position(reader, IDEA)
    return [offset for offset in range(6) if not position.is_done(offset)]


def recorded(store: Store, *keys: str) -> None:
    for key in keys:
        store.enter(key, b"{}", lambda _: None)
    store.commit_now()


def journal(store: Store) -> list[str]:
    return [key for (key,) in store.read_db.execute("select key from journal order by key")]


def test_a_stage_with_another_name_goes_on_where_it_was_with_what_it_had_recorded(store):
    recorded(store, "teller/event/call", "teller-2/event/call", "tel/event/call")
    (one,) = introduce(store, {"idea": ["narrator"]})
    assert str(one) == "narrator takes the place of teller on 'idea'"
    assert unfinished(store, "narrator") == [2, 4, 5]
    assert journal(store) == ["narrator/event/call", "tel/event/call", "teller-2/event/call"]
    assert introduce(store, {"idea": ["narrator"]}) == []


def test_a_stage_that_joins_another_begins_where_that_one_is(store):
    recorded(store, "teller/event/call")
    (one,) = introduce(store, {"idea": ["counter", "teller"]})
    assert "counter is new on 'idea' and begins where teller is" in str(one)
    assert unfinished(store, "counter") == unfinished(store, "teller") == [2, 4, 5]
    assert journal(store) == ["teller/event/call"]


def test_of_several_that_have_vanished_all_is_taken_over_and_nothing_is_lost(store):
    introduce(store, {"idea": ["teller", "counter"]})
    store.finish("counter", IDEA, 2)
    store.commit_now()
    recorded(store, "counter/event/call", "teller/event/call-2")
    printer, narrator = introduce(store, {"idea": ["printer", "narrator"]})
    assert isinstance(printer, StageJoined) and isinstance(narrator, StageJoined)
    assert printer.replaces == narrator.replaces == ("teller", "counter")
    assert unfinished(store, "printer") == unfinished(store, "narrator") == [2, 4, 5]
    assert journal(store) == [
        f"{reader}/event/{call}"
        for reader in ("narrator", "printer")
        for call in ("call", "call-2")
    ]


def test_of_two_others_it_is_the_slower_one(store):
    introduce(store, {"idea": ["teller", "counter"]})
    store.finish("counter", IDEA, 2)
    store.commit_now()
    (one,) = introduce(store, {"idea": ["counter", "printer", "teller"]})
    assert isinstance(one, StageJoined) and one.source == "teller"
    assert unfinished(store, "printer") == [2, 4, 5]


def test_a_topic_that_nobody_read_is_taken_up_whole(store):
    store.append(TP("draft", 0), 0, b"k", b"v")
    store.commit_now()
    (one,) = introduce(store, {"idea": ["teller"], "draft": ["printer"]})
    assert str(one) == "printer is new on 'draft', which nobody read, and takes all of it up"
    assert store.position("printer", TP("draft", 0)).low == 0


def test_what_retention_has_deleted_is_not_waited_for(store):
    draft = TP("draft", 0)
    for key in (b"over", b"over", b"under way", b"over"):
        store.append(draft, 0, key, b"v")
    store.append(TP("draft", 1), 0, b"over", b"v")
    store.append(IDEA, 0, b"under way", b"v")
    store.commit_now()
    for offset in range(6):
        store.finish("teller", IDEA, offset)
    store.commit_now()
    delete_finished(store, PLAN, time.time())
    introduce(store, {"idea": ["teller"], "draft": ["printer"]})
    assert [offset for offset, *_ in store.read(draft, 0, 9)] == [2]
    assert store.position("printer", draft).low == 2
    assert store.position("printer", TP("draft", 1)).low == 1


def test_a_new_file_introduces_nobody(open_store):
    store = open_store()
    store.create("idea", 2)
    assert introduce(store, {"idea": ["teller"]}) == []
    assert introduce(store, {"idea": ["narrator"]}) == [
        StageJoined("narrator", "idea", "teller", ("teller",))
    ]


def plan_of(**readers: tuple[str, ...]) -> Plan:
    return Plan("tale", (Pipeline("tale", "tale.yaml", tuple(readers)),), readers)


def test_what_waits_on_a_topic_that_no_stage_reads_any_more_is_named_until_it_is_done(store):
    (one,) = unread(store, plan_of(story=("teller",)))
    assert (one.topic, one.stages, one.count) == ("idea", ("teller",), 3)
    assert "3 events wait on 'idea' for teller, which no chain has any more" in str(one)
    assert "penstock cancel --topic idea" in str(one)
    assert unread(store, PLAN) == []
    assert unfinished(store, "teller") == [2, 4, 5]  # named again, it goes on where it was


def test_a_topic_that_no_stage_has_ever_read_is_nobodys_backlog(store):
    store.append(TP("draft", 0), 0, b"k", b"v")
    store.commit_now()
    assert [one.topic for one in unread(store, plan_of(story=("teller",)))] == ["idea"]


def test_what_was_begun_before_any_worker_waits_for_its_stages_by_name(tmp_path):
    broker = EmbeddedBroker(Settings(data=tmp_path), PLAN)
    event = first_event("tale", {"idea": "a snail"})
    broker.begin([Beginning("idea", event.id, event.key, dump(event))])
    assert unread(broker.store, plan_of(story=("teller",))) == [Unread("idea", ("teller",), 1)]
    broker.close()


def test_what_is_let_go_is_finished_for_the_stages_that_are_gone(store):
    found = [Found("idea", 0, offset, 0, b"k", b"v") for offset in (2, 4)]
    event = first_event("tale", {"idea": "a snail"})
    recorded(store, f"teller/{event.id}/call", "narrator/5e/call")
    let_go(store, [*found, Found("idea", 0, 5, 0, b"k", dump(event))])
    assert unfinished(store, "teller") == []
    assert unread(store, plan_of(story=("teller",))) == []
    assert journal(store) == ["narrator/5e/call"]


def test_a_stage_that_leaves_a_topic_to_others_says_what_it_leaves_undone(store):
    introduce(store, {"idea": ["teller", "counter"]})
    store.finish("counter", IDEA, 2)
    store.commit_now()
    (one,) = introduce(store, {"idea": ["teller"]})
    assert (
        "counter does not read 'idea' any more: what it had not finished there (2 events)"
        in str(one)
    )
    assert introduce(store, {"idea": ["teller"]}) == []
