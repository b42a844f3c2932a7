"""The JSON Schema of an event, for programs in other languages: it takes what Penstock writes, and
refuses what Penstock refuses."""

import importlib.resources
import json
import re

import jsonschema
import msgspec
import pytest

from penstock.errors import MalformedEvent
from penstock.record import events
from penstock.record.events import Event, Usage, first_event
from tests.programs import ROOT

TRACE = "0f8fad5b-d9cb-469f-a165-70867728950e"
SCHEMA = json.loads(
    importlib.resources.files("penstock.record").joinpath("event.schema.json").read_text()
)
FULL = Event(
    id="i", trace_id=TRACE, parent_id="p", pipeline="tale", stage="teller", agent="teller",
    card="teller@abc", parts={"idea": "Ein Frosch 🐸", "notes": {"n": [1, None, 2.5]}},
    usage=Usage(model="m", requests=1, input_tokens=3, output_tokens=5, seconds=0.5, cut="length"),
    created=1.5, attempt=2, replay=1, only="teller", anew=["x"], forked_from=TRACE,
    tags={"key": "order-17"}, rounds={"teller/LONG": 2},
    seen={"teller/LONG": ["3f"]}, ended="draft is the same as in round 1",
)  # fmt: skip


@pytest.fixture
def takes():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    return jsonschema.Draft202012Validator(SCHEMA).is_valid


def test_it_has_every_field_of_an_event_and_needs_what_an_event_needs():
    fields = msgspec.structs.fields(Event)
    assert set(SCHEMA["properties"]) == {field.name for field in fields}
    assert set(SCHEMA["required"]) == {field.name for field in fields if field.required}
    usage = SCHEMA["properties"]["usage"]["properties"]
    assert set(usage) == {field.name for field in msgspec.structs.fields(Usage)}


@pytest.mark.parametrize("event", [first_event("tale", {"idea": "x"}), FULL])
def test_it_takes_what_penstock_writes(takes, event):
    assert takes(json.loads(events.dump(event)))


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ""}, {"id": "x" * 65}, {"id": None}, {"trace_id": "order-17"}, {"trace_id": 17},
        {"trace_id": TRACE.upper()}, {"trace_id": f"{{{TRACE}}}"}, {"trace_id": f" {TRACE}"},
        {"pipeline": None}, {"stage": 1}, {"parts": {}}, {"parts": "x"}, {"parts": None},
        {"created": -1}, {"created": 1_795_000_000_000}, {"created": "2026-11-29"},
        {"parent_id": 7}, {"tags": {"key": 17}}, {"tags": None}, {"usage": "x"}, {"attempt": -1},
        {"replay": 0.5}, {"only": 1}, {"anew": "x"}, {"rounds": {"a/b": -5}}, {"card": 1},
    ],
)  # fmt: skip
def test_it_refuses_what_penstock_refuses(takes, fields):
    record = {**json.loads(events.dump(FULL)), **fields}
    assert not takes(record)
    with pytest.raises(MalformedEvent):
        events.load(json.dumps(record).encode())


@pytest.mark.parametrize("name", SCHEMA["required"])
def test_it_needs_what_penstock_needs(takes, name):
    record = {**json.loads(events.dump(FULL))}
    del record[name]
    assert not takes(record)
    with pytest.raises(MalformedEvent, match=name):
        events.load(json.dumps(record).encode())


def test_both_ignore_what_they_do_not_know(takes):
    record = {**json.loads(events.dump(FULL)), "mood": "good"}
    assert takes(record) and events.load(json.dumps(record).encode()) == FULL


def test_the_documentation_names_each_field_and_the_namespace_of_plain_runs():
    text = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    assert set(SCHEMA["properties"]) <= set(re.findall(r"`(\w+)`", text))
    assert str(events.NAMESPACE) in text
