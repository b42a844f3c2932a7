"""Plain records: what a program that knows nothing of events puts on an entry begins a run."""

import uuid
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.broker.contract import Row
from penstock.client import Client
from penstock.errors import MalformedEvent
from penstock.project.chain_files import read_chain
from penstock.project.plain import begin_plain
from penstock.project.project import read_project
from penstock.record import dead_letters, events
from penstock.record.events import NAMESPACE
from penstock.settings import Settings
from penstock.worker.stage import Stage
from penstock.worker.work import python_step
from tests.unit.conftest import CHAIN, make_project, messages, until
from tests.unit.houses import House, idea, live, take, write
from tests.unit.test_chains import read, read_any, refused, stages

__all__ = ["live", "read", "read_any", "refused"]

SPEC = "teller"
PLAIN = CHAIN.replace("writes: draft", f"writes: draft, name: {SPEC}") + "accept: plain\n"
TWO = stages("reads: a, step: x, writes: c", "reads: b, step: x, writes: d") + "entry: [a, b]\n"


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        (b"A snail", {"idea": "A snail"}),
        ("Ein Frosch 🐸\n".encode(), {"idea": "Ein Frosch 🐸\n"}),
        (b'{"idea": "A snail"}', {"idea": "A snail"}),
        (b' {"idea": {"hero": 1}, "draft": "Once"}', {"idea": {"hero": 1}, "draft": "Once"}),
        (b'{"id": 17, "hero": "snail"}', {"idea": {"id": 17, "hero": "snail"}}),
        (b"{a snail}", {"idea": "{a snail}"}),
        (b"[1, 2]", {"idea": "[1, 2]"}),
        (b"[" * 100_000, {"idea": "[" * 100_000}),
        (b'{"idea": "\\ud83d"}', {"idea": "\ufffd"}),
    ],
)
def test_text_is_the_entrys_part_and_an_object_its_parts_or_as_a_whole_that_part(read, raw, parts):
    assert begin_plain(read(PLAIN), "idea/2/7", None, raw).parts == parts


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (None, "'idea' is empty"),
        (b"  \n", "'idea' is empty"),
        (b"{}", "'idea' is empty"),
        (b"\xff\xfe", "'utf-8' codec can't decode byte 0xff"),
        (b'{"idea": "x", "mood": "good"}', "'tale' has no part 'mood'; it knows idea, draft, text"),
        (b'{"idea": NaN}', "nan is no number in JSON"),
        (b'{"idea": 1e999}', "inf is no number in JSON"),
        (b'{"idea": ' + b"[" * 100_000, "maximum recursion depth"),
    ],
)
def test_what_no_run_can_begin_with_is_refused_as_at_submit(read, raw, says):
    with pytest.raises(MalformedEvent) as caught:
        begin_plain(read(PLAIN), "idea/2/7", None, raw)
    assert caught.value.message.startswith("no run can begin with this record: ")
    assert says in caught.value.message


def test_the_run_follows_from_where_the_record_stands_and_its_key_is_a_tag(read):
    chain = read(PLAIN)
    event = begin_plain(chain, "idea/2/7", b"order-17", b"A snail")
    assert event.trace_id == str(uuid.uuid5(NAMESPACE, "idea/2/7"))
    assert begin_plain(chain, "idea/2/7", None, b"A snail").id == event.id
    assert begin_plain(chain, "idea/2/8", None, b"A snail").trace_id != event.trace_id
    assert (event.pipeline, event.stage, event.tags) == ("tale", "plain", {"key": "order-17"})
    assert begin_plain(chain, "idea/2/7", None, b"A snail").tags == {}
    assert begin_plain(chain, "idea/2/7", b"\xff", b"A snail").tags == {"key": "\ufffd"}


def test_a_chain_accepts_plain_records_on_its_entries_or_on_those_that_it_names(read, refused):
    chains = [read(TWO), read(TWO + "accept: plain\n"), read(TWO + "accept: {b: plain}\n")]
    accepted = [[topic for topic in "abcd" if chain.accepts_plain(topic)] for chain in chains]
    assert accepted == [[], ["a", "b"], ["b"]]
    assert refused(TWO + "accept: {c: plain}\n") == "tale.yaml:11: 'c' is not an entry (a, b)."
    assert "'accept" in refused(TWO + "accept: text\n")


# -- in a stage


def accepting(house: House, folder: Any, text: str = PLAIN, name: str = SPEC) -> Stage:
    file = folder / "tale.yaml"
    file.write_text(text)
    chain, _ = read_chain(file)
    assert chain is not None
    (spec,) = (stage for stage in chain.stages if stage.name == name)
    return Stage(house.env, spec, python_step(write), 100, accepting=chain)


def test_a_plain_record_becomes_the_first_event_of_its_run_on_the_same_topic(live, tmp_path):
    async def body(house: House) -> None:
        stage = accepting(house, tmp_path)
        take(stage, await house.put((b"order-17", b"A snail")))
        await until(lambda: len(messages(house.store, "idea")) == 2)
        found = messages(house.store, "idea")
        trace_id = str(uuid.uuid5(NAMESPACE, "idea/0/0"))
        assert found[1].key == trace_id.encode()
        (line,) = house.event_log.lines
        assert (line["event"], line["trace_id"], line["offset"]) == ("produce", trace_id, 1)
        take(stage, found)
        await house.over()
        (output,) = house.outputs()
        assert output.parts["draft"] == "once A snail"
        assert (output.trace_id, output.tags) == (trace_id, {"key": "order-17"})
        await until(lambda: house.done() == [0, 1])
        assert house.dead_letters == []

    live(body)


def test_of_several_stages_on_the_entry_one_begins_the_run(live, tmp_path):
    text = PLAIN.replace("stages:", "stages:\n  - {reads: idea, step: present, name: shower}")

    async def body(house: House) -> None:
        found = await house.put((None, b"A snail"))
        take(accepting(house, tmp_path, text), found)
        await until(lambda: house.done() == [0])
        assert len(messages(house.store, "idea")) == 1, "it is left to the first"
        take(accepting(house, tmp_path, text, "shower"), found)
        await until(lambda: len(messages(house.store, "idea")) == 2)

    live(body)


def test_what_is_meant_as_an_event_is_one_or_a_dead_letter_and_so_is_what_is_too_large(
    live, tmp_path
):
    async def body(house: House) -> None:
        good, bad = events.dump(idea()), events.dump(idea()).replace(b"0f8fad5b", b"order-17")
        found = await house.put(idea(), (b"x", bad), (b"x", b"\xff" * 20), (b"x", b"x" * 900))
        take(accepting(house, tmp_path), found)
        await house.over(4)
        assert house.outputs()[0].parts["draft"] == "once a snail" and good
        assert [dead_letter.offset for dead_letter in house.dead_letters] == [1, 2, 3]
        assert [dead_letter.cause for dead_letter in house.dead_letters] == [
            "MalformedEvent", "MalformedEvent", "EventTooLarge",
        ]  # fmt: skip
        assert "its trace_id is" in house.dead_letters[0].message
        assert house.dead_letters[1].record == b"\xff" * 20

    live(body, max_event_bytes=800)


def test_where_a_chain_does_not_accept_it_a_plain_record_is_a_dead_letter(live):
    async def body(house: House) -> None:
        take(house.stage(write), await house.put((b"order-17", b"A snail")))
        await house.over()
        (dead_letter,) = house.dead_letters
        assert dead_letter.message.startswith("not an event: JSON is malformed")

    live(body)


def test_a_replay_of_a_plain_record_begins_the_run_that_it_would_have_begun(tmp_path):
    """Here the chain accepts such records only since."""
    project = read_project(make_project(tmp_path / "project", PLAIN))
    record = SimpleNamespace(topic="idea", partition=2, offset=7, key=b"o", value=b"A snail")
    dead_letter = dead_letters.write("tale", SPEC, record, None, MalformedEvent("no"), 0)
    with Client(Settings(data=tmp_path), project) as client:
        row = Row("penstock-dead-letters", record.key, dead_letters.dump(dead_letter))
        client.broker.append([row])
        event = client.replay(dead_letter.id)
        assert event == client.read(event.trace_id).entries[0].event
        assert event.trace_id == str(uuid.uuid5(NAMESPACE, "idea/2/7"))
        assert (event.tags, event.replay, event.only) == ({"key": "o"}, 0, None)
        assert client.dead_letters() == []
