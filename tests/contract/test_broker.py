"""The contract of a broker (`penstock.broker.contract`), on each of the two: begin, append, cancel,
read, journal, replay, retention, lag, check."""

import asyncio
import contextlib
import dataclasses
import pathlib
import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from penstock.broker import open_broker
from penstock.broker.contract import Row, Unread
from penstock.broker.tp import TP
from penstock.conditions import UP
from penstock.errors import RunBegunBefore
from penstock.journal import MODEL, Call
from penstock.record import dead_letters as deadletters
from penstock.record import events, steps
from penstock.record.events import NAMESPACE
from penstock.record.steps import StepRecord
from penstock.runs.index import Bound, Filter
from penstock.steps import Work
from tests.contract.brokers import KAFKA, SQLITE
from tests.contract.workers import House, ask

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module", params=[SQLITE, KAFKA])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def checks() -> dict[str, Any]:
    """What was to be seen before there was a worker."""
    return {}


@pytest.fixture(scope="module")
def house(
    kind: str,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    checks: dict[str, Any],
) -> Iterator[House]:
    """One worker for all tests: each has runs of its own."""
    folder: pathlib.Path = tmp_path_factory.mktemp(kind)
    url = f"kafka://{request.getfixturevalue('kafka')}" if kind == KAFKA else ""
    house = House(url, folder / "project")
    try:
        # Before any worker was there, and any topic.
        checks["early"] = str(uuid.uuid4())
        checks["begun"] = house.begin(checks["early"])
        checks["running"] = house.broker.worker_running()
        checks["check"] = house.broker.check()
        house.start()
        yield house
    finally:
        house.stop()


@pytest.fixture
def trace_id() -> str:
    return str(uuid.uuid4())


# -- begin


def test_a_run_that_was_begun_before_there_was_a_worker_waits_for_one(house, checks):
    assert checks["begun"].offset == 0 and not checks["running"]
    sound, said = checks["check"]
    assert sound and said.endswith("no worker is running"), said
    house.wait_until_over(checks["early"])
    assert house.parts(house.text, checks["early"]) == [
        {house.idea: "a snail", house.draft: "answer 1", house.text: "printed"}
    ]


def test_a_run_that_is_begun_twice_runs_once(house, trace_id):
    first = house.begin(trace_id)
    house.wait_until_over(trace_id)
    again = house.begin(trace_id)
    # On Kafka only the workers know what was begun.
    assert again is None if house.settings.embedded else again.partition == first.partition
    other = str(uuid.uuid4())
    house.begin(other, {"after": trace_id})
    house.wait_until_over(other)
    house.wait_until_over(trace_id)
    assert house.asked(trace_id) == 1
    assert len(house.found(house.idea, trace_id)) == len(house.found(house.text, trace_id)) == 1


def test_a_run_that_is_begun_twice_at_once_runs_once(house, trace_id):
    gate = house.hold(trace_id)
    house.broker.begin([house.beginning(trace_id)] * 2)
    house.begin(trace_id)
    assert gate.entered.wait(30)
    house.soon(gate.open)
    house.wait_until_over(trace_id)
    assert house.asked(trace_id) == 1


@pytest.mark.parametrize("when", ["at once", "afterwards"])
def test_a_run_that_is_begun_again_with_other_content_is_refused(house, trace_id, when):
    house.begin(trace_id)
    if when == "afterwards":
        house.wait_until_over(trace_id)
    if house.settings.embedded:
        with pytest.raises(RunBegunBefore, match=f"run {trace_id} was begun before with other"):
            house.begin(trace_id, {house.idea: "a whale"})
    else:
        house.begin(trace_id, {house.idea: "a whale"})
        (dead_letter,) = house.wait(lambda: house.dead_letters(trace_id), "a dead letter")
        assert (
            dead_letter.cause == "RunBegunBefore"
            and f"run {trace_id} was begun" in dead_letter.message
        )
    house.wait_until_over(trace_id)
    assert house.asked(trace_id) == 1
    (made,) = house.parts(house.text, trace_id)
    assert made[house.idea] == "a snail"


def test_of_several_runs_each_is_begun_and_located(house):
    ids = [str(uuid.uuid4()) for _ in range(5)]
    locations = house.broker.begin([house.beginning(one) for one in ids])
    for one, location in zip(ids, locations, strict=True):
        (found,) = house.found(house.idea, one)
        assert (found.partition, found.offset) == location
        house.wait_until_over(one)


def test_of_several_runs_one_that_is_refused_is_not_run(house, trace_id):
    house.begin(trace_id)
    other = str(uuid.uuid4())
    runs = [house.beginning(other), house.beginning(trace_id, {house.idea: "a whale"})]
    if house.settings.embedded:
        with pytest.raises(RunBegunBefore):
            house.broker.begin(runs)
        assert house.found(house.idea, other) == [], "all of them begin, or none"
    else:
        house.broker.begin(runs)
        house.wait(lambda: house.dead_letters(trace_id), "a dead letter")
        house.wait(lambda: house.found(house.text, other), "the other's end")
    house.wait_until_over(trace_id)
    assert house.asked(trace_id) == 1


def test_a_worker_begins_a_run_once_and_refuses_other_content(house, trace_id):
    location = house.begin_here(trace_id)
    (found,) = house.found(house.idea, trace_id)
    assert location == (found.partition, found.offset)
    assert house.begin_here(trace_id) is None
    with pytest.raises(RunBegunBefore):
        house.begin_here(trace_id, "a whale")
    house.wait_until_over(trace_id)
    assert len(house.found(house.text, trace_id)) == 1


def test_a_run_that_a_worker_and_a_client_begin_runs_once(house, trace_id):
    house.begin_here(trace_id)
    house.begin(trace_id)
    house.wait_until_over(trace_id)
    assert house.asked(trace_id) == 1


# -- append, find, version


def test_what_is_appended_is_found_by_its_key_in_its_order(house, trace_id):
    key = trace_id.encode()
    rows = [Row(house.text, key, b"%d" % number) for number in range(4)]
    rows.insert(2, Row(house.text, b"somebody else", b"x"))
    locations = house.broker.append(rows)
    found = house.found(house.text, trace_id)
    assert [one.value for one in found] == [b"0", b"1", b"2", b"3"]
    mine = [one for one, row in zip(locations, rows, strict=True) if row.key == key]
    assert [(one.partition, one.offset) for one in found] == mine
    assert len({one.partition for one in found}) == 1
    assert all(abs(one.ts / 1000 - house.now()) < 120 for one in found)
    with house.broker.snapshot():
        rest = house.broker.find(house.text, key, found[2].offset)
        everything = house.broker.find(house.text, None)
    assert rest == found[2:]
    assert set(found) < set(everything)


def test_each_plain_record_on_the_entry_begins_a_run_of_its_own(house):
    """Whatever it says its id is: that is the other program's."""
    record = b'{"id": "A1", "hero": "a snail"}'
    rows = [Row(house.idea, key, record) for key in (b"order-17", b"order-18")]
    for row, (partition, offset) in zip(rows, house.broker.append(rows), strict=True):
        trace_id = str(uuid.uuid5(NAMESPACE, f"{house.idea}/{partition}/{offset}"))
        house.wait(partial(house.parts, house.text, trace_id), f"the run of {row.key!r}")
        (found,) = house.found(house.text, trace_id)
        event = events.load(found.value)
        assert event.parts[house.idea] == {"id": "A1", "hero": "a snail"}
        assert event.tags == {"key": row.key.decode()}
        assert house.asked(trace_id) == 1
        house.wait_until_over(trace_id)


def test_the_version_changes_with_whatever_is_added(house, trace_id):
    seen = house.broker.version()
    house.broker.append([Row(house.text, trace_id.encode(), b"x")])
    house.wait(lambda: house.broker.version() != seen, "another version")


def test_a_topic_of_the_plan_that_has_nothing_on_it_has_nothing(house):
    assert house.found(house.plan.cancels, "nobody") == []


# -- readers


def test_what_is_in_flight_is_not_done_and_counts(house, trace_id):
    gate = house.hold(trace_id)
    house.begin(trace_id)
    assert gate.entered.wait(30)
    (found,) = house.found(house.idea, trace_id)
    assert not house.broker.is_done(house.teller, found)
    # Others' runs are over by now, and on Kafka committed a little later.
    house.wait(lambda: house.broker.unfinished(house.teller, house.idea) == 1, "one unfinished")
    house.wait(lambda: house.call(house.membership.lag(house.idea)) == 1, "a lag of one")
    house.soon(gate.open)
    house.wait_until_over(trace_id)
    with house.broker.snapshot():
        assert house.broker.is_done(house.teller, found)
    house.wait(lambda: house.broker.unfinished(house.teller, house.idea) == 0, "none unfinished")
    house.wait(lambda: house.call(house.membership.lag(house.idea)) == 0, "no lag")


def test_a_run_is_never_seen_as_over_before_its_end(house):
    """However often and whenever it is looked at: all topics are read as of one moment."""
    ids = [str(uuid.uuid4()) for _ in range(30)]
    house.broker.begin([house.beginning(one) for one in ids])
    left = set(ids)
    while left:
        for one in list(left):
            with house.broker.snapshot():
                over = house.is_over_now(one)
                ended = house.broker.find(house.text, one.encode())
            if over:
                assert ended, "it seemed to be over, and there was no end"
                left.discard(one)


# -- cancel


def test_a_run_that_is_cancelled_ends_where_it_is(house, trace_id):
    gate = house.hold(trace_id)
    house.begin(trace_id)
    assert gate.entered.wait(30)
    house.broker.cancel(trace_id.encode(), b"{}")
    house.wait_until_over(trace_id)
    assert house.found(house.draft, trace_id) == [] and house.dead_letters(trace_id) == []
    assert house.found(house.plan.cancels, trace_id)[0].value == b"{}"


def test_a_run_that_is_cancelled_before_it_begins_is_not_paid_for(house, trace_id):
    house.broker.cancel(trace_id.encode(), b"{}")
    house.wait(lambda: house.is_cancelled(trace_id), "the worker to hear of it")
    house.begin(trace_id)
    house.wait_until_over(trace_id)
    assert house.asked(trace_id) == 0


# -- chains that were edited


def test_what_waits_for_a_stage_that_is_gone_is_known_and_can_be_let_go(house, trace_id):
    gate = house.hold(trace_id)
    house.begin(trace_id)
    assert gate.entered.wait(60)
    edited = dataclasses.replace(house.plan, readers={house.draft: (house.printer,)})
    with contextlib.closing(open_broker(house.settings, edited)) as fresh:
        assert unread(fresh) == [Unread(house.idea, (house.teller,), 1)]
        assert unread(house.broker) == []
        fresh.let_go(house.found(house.idea, trace_id, fresh))
        assert unread(fresh) == []
    house.soon(gate.open)
    house.wait_until_over(trace_id)


def unread(broker: Any) -> Any:
    with broker.snapshot():
        return broker.unread()


# -- the journal


def test_what_is_recorded_is_recalled_until_the_step_has_ended(house, trace_id):
    seen: list[Any] = []

    async def script(work: Any) -> str:
        calls = work.calls
        journal, message = calls.journal, calls.message
        key = f"{calls.step}/question-0"
        seen.append(journal.recall(key, message))
        await journal.record(key, message, b"answer")
        seen.append(journal.recall(key, message))
        seen.append(journal.is_done(house.teller, message))
        seen.append((key, message))
        return "x"

    house.script(trace_id, script)
    house.begin(trace_id)
    house.wait_until_over(trace_id)
    assert seen[:3] == [None, b"answer", False]
    key, message = seen[3]
    journal = house.membership.journal
    house.wait(lambda: journal.recall(key, message) is None, "the entry to go")
    assert journal.is_done(house.teller, message) and not journal.is_done("nobody", message)


def test_who_waits_for_a_record_may_leave(house, trace_id):
    seen: list[Any] = []

    async def script(work: Any) -> str:
        calls = work.calls
        key = f"{calls.step}/question-0"
        recording = calls.journal.record(key, calls.message, b"answer")
        waiting = asyncio.ensure_future(_wait(recording))
        await asyncio.sleep(0)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        seen.append(calls.journal.recall(key, calls.message))
        return "x"

    house.script(trace_id, script)
    house.begin(trace_id)
    house.wait_until_over(trace_id)
    assert seen == [b"answer"]


async def _wait(future: Any) -> None:
    await asyncio.shield(future)


def test_a_claim_is_the_first_events_for_good(house, trace_id):
    held: list[Any] = []

    async def script(work: Work) -> str:
        held.append(await work.claim("one"))
        held.append(await work.claim("two"))
        return "x"

    house.script(trace_id, script)
    house.begin(trace_id)
    house.wait_until_over(trace_id)
    assert [(claim.value, claim.mine) for claim in held] == [("one", True), ("one", True)]


# -- dead letters, and their replay


def test_a_dead_letter_is_replayed_and_pays_for_nothing_again(house, trace_id):
    moods = ["bad"]

    async def script(work: Work) -> str:
        answer = await ask(work)
        if moods:
            raise ValueError(moods.pop())
        return answer

    house.script(trace_id, script)
    house.begin(trace_id)
    (dead_letter,) = house.wait(lambda: house.dead_letters(trace_id), "a dead letter")
    house.wait_until_over(trace_id)
    assert dead_letter.cause == "StepFailed" and house.found(house.draft, trace_id) == []
    with house.client() as client:
        client.replay(dead_letter.id)
    house.wait(lambda: house.found(house.text, trace_id), "the end")
    house.wait_until_over(trace_id)
    assert house.asked(trace_id) == 1
    assert house.parts(house.text, trace_id)[0][house.draft] == "answer 1"
    first, closed = house.dead_letters(trace_id)
    assert (first.resolved, closed.resolved) == ("", deadletters.REPLAYED)


# -- retention


def test_finished_runs_are_retired_and_nothing_that_is_in_flight(house, trace_id):
    held = str(uuid.uuid4())
    house.begin_here(trace_id)
    house.wait_until_over(trace_id)
    gate = house.hold(held)
    house.begin(held)
    assert gate.entered.wait(30)
    before = house.now() + 60

    def retired() -> bool:
        house.call(house.membership.retire(before))
        fresh = open_broker(house.settings, house.plan)
        try:
            return not house.found(house.idea, trace_id, fresh)
        finally:
            fresh.close()

    house.wait(retired, "the finished run to go")
    fresh = open_broker(house.settings, house.plan)
    try:
        assert len(house.found(house.idea, held, fresh)) == 1
    finally:
        fresh.close()
    house.soon(gate.open)
    house.wait_until_over(held)
    assert house.asked(held) == 1
    # A run that is not kept any more may begin anew.
    assert house.begin_here(trace_id, "a whale") is not None
    house.wait_until_over(trace_id)
    assert house.asked(trace_id) == 2


def test_a_seed_is_known_however_old_it_is(house, trace_id):
    assert house.begin_here(trace_id, kept=True) is not None
    house.wait_until_over(trace_id)
    house.call(house.membership.retire(house.now() + 60))
    assert house.begin_here(trace_id, kept=True) is None


# -- how it is


def test_a_broker_with_a_worker_says_so(house):
    assert house.broker.worker_running()
    sound, said = house.broker.check()
    assert sound and said.endswith("a worker is running"), said
    condition = house.membership.condition
    assert (condition.what, condition.state, condition.since) == ("broker", UP, None)


# -- follow, and the index that is filled so


def _read_on(house, starts):
    """What stands on the topics of the house from `starts` on, a few records at a time, and where
    to go on."""
    topics = [house.plan.steps, house.idea, house.text]
    ends = {tp: extent.end for tp, extent in house.broker.extents(topics).items()}
    found, after = [], dict(starts)
    while spans := {
        tp: range(after.get(tp, 0), end) for tp, end in ends.items() if after.get(tp, 0) < end
    }:
        some, moved = house.broker.follow(spans, 3)
        assert len(some) <= 3
        found += some
        after |= moved
    return found, after


def test_topics_are_followed_from_where_one_was(house, trace_id):
    _, after = _read_on(house, {})
    key = trace_id.encode()
    rows = [Row(house.text, key, b"%d" % number) for number in range(5)]
    rows += [Row(house.plan.steps, b"", b"[]")]
    locations = house.broker.append(rows)
    found, after = _read_on(house, after)
    mine = [one for one in found if one.key == key or one.value == b"[]"]
    topics: dict[str, list[Any]] = {row.topic: [] for row in rows}
    for one in mine:
        topics[one.topic].append((one.partition, one.offset, one.key, one.value))
    assert topics == {
        house.text: [
            (*location, key, row.value)
            for location, row in zip(locations, rows, strict=True)
            if row.key
        ],
        house.plan.steps: [(*locations[-1], b"", b"[]")],
    }
    assert _read_on(house, after)[0] == []
    extents = house.broker.extents([house.text])
    tp = TP(house.text, locations[0].partition)
    assert extents[tp].end == after[tp] and extents[tp].first <= locations[0].offset
    there, beyond = locations[0].offset, extents[tp].end
    assert there in house.broker.kept(*tp, [there, beyond]), "it is not deleted"
    again, _ = house.broker.follow({tp: range(there, there + 1)}, 10)
    assert [(one.offset, one.value) for one in again] == [(there, b"0")]


def test_topics_that_are_not_there_have_no_extent(house):
    assert house.broker.extents(["no-such-topic"]) == {}


def test_the_index_has_runs_as_the_broker_has_them(house, trace_id):
    """With the records of steps, and as the broker says where there are none."""
    house.begin(trace_id)
    house.wait_until_over(trace_id)
    client = house.client()
    try:
        client.index.refresh()
        (row,) = [one for one in client.index.find(limit=1000) if one.trace_id == trace_id]
        assert (row.state, row.pipeline, row.line) == ("done", house.pipeline, "a snail")
        assert client.index.resolve(trace_id[:8]) == trace_id
        read = client.index.read(trace_id)
        on_topics = client.runs.read(trace_id)
        assert (read.state, read.entries) == (on_topics.state, on_topics.entries)
        (event,) = (events.load(one.value) for one in house.found(house.idea, trace_id))
        record = StepRecord(
            trace_id=trace_id, event=event.id, replay=7,
            pipeline=house.pipeline, stage=house.teller, does="tell", topic=house.idea,
            partition=0, offset=0, taken=house.now(), ended=house.now(),
            calls=[Call(MODEL, "openai/large", "k", 1.0, 2.0, cost=0.5)],
        )  # fmt: skip
        house.broker.append([Row(house.plan.steps, b"", steps.joined([steps.dump(record)] * 2))])
        client.index.refresh()
        assert record in client.index.steps(trace_id)
        (row,) = client.index.find(Filter(cost=Bound(">", 0.4), pipeline=house.pipeline))
        assert (row.trace_id, row.cost, row.state) == (trace_id, 0.5, "done")
    finally:
        client.close()
