"""Events: what they are made of, and ids that the same work always makes again."""

import json
import uuid

import pytest

from penstock.errors import MalformedEvent
from penstock.record import events
from penstock.record.events import (
    Event,
    Usage,
    as_trace_id,
    derive_id,
    first_event,
    seed_trace_id,
)

TRACE = "0f8fad5b-d9cb-469f-a165-70867728950e"


def test_an_event_survives_the_topic():
    event = Event(
        id="i",
        trace_id=TRACE,
        parent_id="p",
        pipeline="tale",
        stage="tale_teller_idea",
        agent="teller",
        card="teller@abc",
        parts={"idea": "Ein Frosch 🐸", "notes": {"n": [1, None, 2.5]}},
        usage=Usage(model="offline/storyteller", requests=1, seconds=0.5),
        created=1.5,
        attempt=2,
        replay=1,
        forked_from="f",
    )
    assert events.load(events.dump(event)) == event


def test_what_an_event_does_not_have_takes_no_room_on_the_topic():
    raw = events.dump(first_event("tale", {"idea": "x"}))
    assert set(json.loads(raw)) == {"id", "trace_id", "pipeline", "stage", "parts", "created"}


def test_keys_of_a_newer_penstock_are_ignored():
    event = first_event("tale", {"idea": "x"})
    raw = json.dumps({**json.loads(events.dump(event)), "mood": "good"}).encode()
    assert events.load(raw) == event


def test_the_key_of_an_event_is_its_run():
    event = first_event("tale", {"idea": "x"}, TRACE)
    assert event.key == TRACE.encode()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, "the record is empty"),
        (b"", "the record is empty"),
        (b"hello", "not an event: JSON is malformed"),
        (b"\xff\xfe", "not an event: "),
        (b'{"id": "x"}', "missing required field `trace_id`"),
        (b"[]", "Expected `object`, got `array`"),
        (b"[" * 100_000, "not an event: "),
        (
            b'{"id":"x","trace_id":"t","pipeline":"p","stage":"s","parts":' + b'{"a":' * 100_000,
            "not an event: maximum recursion depth",
        ),
        (
            b'{"id":"x","trace_id":"t","pipeline":"p","stage":"s","parts":"x","created":1}',
            "`$.parts`",
        ),
        (
            b'{"id":"x","trace_id":"t","pipeline":"p","stage":"s","parts":{"a":"\xff"},"created":1}',
            "not an event: ",
        ),
    ],
)
def test_what_is_no_event_is_refused_with_the_reason(raw, expected):
    with pytest.raises(MalformedEvent) as caught:
        events.load(raw)
    assert expected in caught.value.message


@pytest.mark.parametrize(
    "trace_id",
    [
        "order-17", "", " " + TRACE, TRACE + "\n", TRACE.upper(), f"{{{TRACE}}}",
        TRACE.replace("-", ""), f"urn:uuid:{TRACE}", TRACE.replace("0", "\u0660"),
    ],
)  # fmt: skip
def test_a_trace_id_on_a_topic_has_one_spelling(trace_id):
    raw = json.loads(events.dump(first_event("tale", {"idea": "x"}, TRACE)))
    with pytest.raises(MalformedEvent) as caught:
        events.load(json.dumps({**raw, "trace_id": trace_id}).encode())
    assert caught.value.message == (
        f"not an event: its trace_id is {trace_id!r}, and not a UUID in lower case with hyphens,"
        " so nobody could look at the run or cancel it"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ""}, {"id": "x" * 65}, {"id": 7}, {"id": None},
        {"trace_id": 7}, {"pipeline": None}, {"stage": None}, {"parent_id": 7},
        {"parts": {}}, {"parts": []}, {"parts": "x"},
        {"created": -1}, {"created": 1_795_000_000_000}, {"created": "2026-11-29"},
        {"created": True},
        {"attempt": -1}, {"replay": -1}, {"replay": 1.5}, {"only": 1}, {"anew": "x"},
        {"rounds": {"a/b": -5}}, {"rounds": {"a/b": "x"}}, {"usage": "x"}, {"forked_from": 1},
    ],
)  # fmt: skip
def test_fields_that_would_break_a_run_are_refused_by_name(fields):
    raw = json.loads(events.dump(first_event("tale", {"idea": "x"}, TRACE)))
    (name,) = fields
    with pytest.raises(MalformedEvent, match=rf"not an event: .*`\$\.{name}") as caught:
        events.load(json.dumps({**raw, **fields}).encode())
    assert "Expected" in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        TRACE, TRACE.upper(), f"{{{TRACE}}}", TRACE.replace("-", ""), f"urn:uuid:{TRACE}",
        uuid.UUID(TRACE),
    ],
)  # fmt: skip
def test_people_may_spell_a_trace_id_as_they_like(text):
    assert as_trace_id(text) == TRACE


@pytest.mark.parametrize(
    "text", ["order-17", "", 17, None, TRACE[:-1] + " ", TRACE.replace("5b-d", "5b_d"), TRACE + "0"]
)
def test_what_is_no_uuid_is_no_trace_id(text):
    with pytest.raises(ValueError, match="UUID"):
        as_trace_id(text)


def test_the_same_work_always_makes_the_same_id():
    assert derive_id("p", "s", "t") == derive_id("p", "s", "t") == derive_id("p", "s", "t", 0, 0)
    # Ids stand in topics and journals: a change would make every run in flight pay again.
    assert derive_id("p", "s", "t") == "265225d5-eb9b-5a9d-a986-48ec3b388535"


def test_other_work_makes_another_id():
    made = [
        derive_id("p", "s", "t"),
        derive_id("q", "s", "t"),
        derive_id("p", "r", "t"),
        derive_id("p", "s", "u"),
        derive_id("p", "s", "t", 1),
        derive_id("p", "s", "t", 0, 1),
    ]
    assert len(set(made)) == len(made)


def test_a_run_begins_with_a_new_trace_unless_it_is_given_one():
    one, two = first_event("tale", {"idea": "x"}), first_event("tale", {"idea": "x"})
    assert one.trace_id != two.trace_id
    assert one.id != two.id
    assert uuid.UUID(one.trace_id).version == 4
    assert (one.parent_id, one.stage) == (None, "submit")


def test_a_run_with_a_given_trace_begins_once():
    one = first_event("tale", {"idea": "x"}, TRACE)
    assert first_event("tale", {"idea": "y"}, TRACE).id == one.id
    assert first_event("fable", {"idea": "x"}, TRACE).id != one.id


def test_the_trace_of_a_seed_follows_from_app_pipeline_and_seed():
    trace = seed_trace_id("penstock", "tale", '{"idea":"x"}')
    assert uuid.UUID(trace)
    assert seed_trace_id("penstock", "tale", '{"idea":"x"}') == trace
    others = [
        seed_trace_id("other", "tale", '{"idea":"x"}'),
        seed_trace_id("penstock", "fable", '{"idea":"x"}'),
        seed_trace_id("penstock", "tale", '{"idea":"y"}'),
    ]
    assert len({trace, *others}) == 4
