"""A stage: what becomes of an event, on a real embedded store and without a worker."""

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, cast

import pytest
from faust.types import TP

from app import deadletters, events
from app.broker.store import Store
from app.chains import StageSpec
from app.deadletters import DeadLetter
from app.errors import ModelRefused, ModelUnavailable, Unavailable
from app.events import Event, derive_id, first_event
from app.journal import EmbeddedJournal
from app.processing import Flight
from app.settings import Settings
from app.stage import Stage
from app.steps import FanOut, Work
from app.work import Answer, StepWork, python_step
from tests.unit.conftest import Opener, messages, run_leaping, until

SPEC = StageSpec(pipeline="tale", name="teller", reads="idea", writes="draft", step="tell")
LETTERS = "penstock-dead-letters"
TRACE = "0f8fad5b-d9cb-469f-a165-70867728950e"


class Log:
    """An event log that keeps its lines."""

    writing = True

    def __init__(self) -> None:
        self.room = asyncio.Event()
        self.room.set()
        self.lines: list[dict[str, Any]] = []

    def write(self, event: str, topic: str, trace_id: str, message: Any, **fields: Any) -> None:
        self.lines.append(
            {"event": event, "topic": topic, "trace_id": trace_id, "message": message, **fields}
        )


class House:
    """What a stage needs of the app around it."""

    suspects = None
    open_memory = None

    def __init__(self, store: Store, **settings: Any) -> None:
        self.store = store
        self.settings = Settings(**settings)
        self.journal = EmbeddedJournal(store)
        self.event_log = Log()
        self.consumer_generation_id = None
        self.cancelled: set[bytes] = set()
        self.shown: list[str] = []
        self.ended: list[Event] = []
        self.progress = asyncio.Event()
        self.letters: list[DeadLetter] = []

    def card_label(self, agent: str | None) -> str | None:
        return None

    def show(self, text: str) -> None:
        self.shown.append(text)

    def finished(self, spec: StageSpec, event: Event, answer: Answer, topics: str) -> None:
        self.ended.append(event)
        self.progress.set()

    def buried(self, spec: StageSpec, letter: DeadLetter) -> None:
        self.letters.append(letter)
        self.progress.set()

    # -- for the tests

    def stage(
        self,
        do: Callable[[StepWork], Awaitable[Answer]] | Callable[[Work], Any],
        spec: StageSpec = SPEC,
        limit: int = 100,
    ) -> Stage:
        """A stage that does `do`, a Python step."""
        return Stage(cast(Any, self), spec, python_step(do), limit)

    async def put(self, *records: Event | bytes | tuple[bytes | None, bytes | None]) -> list[Any]:
        """The records stand on the stage's topic; all messages there."""
        for record in records:
            if isinstance(record, Event):
                record = (record.key, events.dump(record))
            elif isinstance(record, bytes):
                record = (b"a run", record)
            durable: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            self.store.append(TP("idea", 0), 0, *record, None, durable.set_result)
            await durable
        return messages(self.store, "idea")

    async def over(self, count: int = 1) -> None:
        """So many events have ended, well or as dead letters."""
        while len(self.ended) + len(self.letters) < count:
            self.progress.clear()
            await self.progress.wait()

    def outputs(self) -> list[Event]:
        return [events.load(message.value) for message in messages(self.store, "draft")]

    def done(self) -> list[int]:
        """The offsets that the stage has finished, as they stand in the file."""
        part = self.store.part(TP("idea", 0))
        stored = self.store.stored_position(self.store.writer.db, "teller", part)
        return [offset for offset in range(20) if stored.is_done(offset)]


Body = Callable[[House], Coroutine[Any, Any, None]]


@pytest.fixture
def live(open_store: Opener) -> Callable[..., None]:
    """Runs a coroutine function on the worker's loop, with a house. With `leaping`, on a clock
    that leaps over pauses."""

    def run(body: Body, leaping: bool = False, **settings: Any) -> None:
        async def main() -> None:
            store = open_store()
            for topic in ("idea", "draft", LETTERS):
                store.create(topic, 1)
            store.start(asyncio.get_running_loop())
            await body(House(store, **settings))
            if not leaping:
                await store.flush()

        (run_leaping if leaping else asyncio.run)(main())

    return run


def take(stage: Stage, found: Iterable[Any]) -> None:
    for message in found:
        stage._take(message)


def idea(text: str = "a snail", trace_id: str = TRACE) -> Event:
    return first_event("tale", {"idea": text}, trace_id)


async def tell(work: Work) -> str:
    return f"once {work.parts['idea']}"


class Gate:
    """A step that says when it begins and waits until it is let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.open: dict[str, asyncio.Event] = {}

    async def __call__(self, work: Work) -> str:
        name = work.parts["idea"]
        self.begun.append(name)
        await self.open.setdefault(name, asyncio.Event()).wait()
        return "x"

    def let(self, *names: str) -> None:
        for name in names:
            self.open.setdefault(name, asyncio.Event()).set()

    async def step(self, work: Work) -> str:
        return await self(work)


# -- an event's life


def test_a_step_makes_the_next_event_and_the_old_one_is_done(live):
    async def body(house: House) -> None:
        event = idea()
        take(house.stage(tell), await house.put(event))
        await house.over()
        (output,) = house.outputs()
        assert output.parts == {"idea": "a snail", "draft": "once a snail"}
        assert output.id == derive_id(event.id, "teller", "draft")
        assert (output.trace_id, output.parent_id) == (TRACE, event.id)
        assert (output.pipeline, output.stage, output.attempt) == ("tale", "teller", 1)
        assert output.usage is not None and output.usage.seconds >= 0
        assert messages(house.store, "draft")[0].key == TRACE.encode()
        assert house.done() == [0]

    live(body)


def test_what_the_chain_does_not_carry_is_left_behind(live):
    async def body(house: House) -> None:
        spec = StageSpec(
            pipeline="tale",
            name="teller",
            reads="idea",
            writes="draft",
            step="t",
            carries=("mood",),
        )
        event = first_event("tale", {"idea": "a snail", "mood": "glad"})
        take(house.stage(tell, spec), await house.put(event))
        await house.over()
        assert house.outputs()[0].parts == {"mood": "glad", "draft": "once a snail"}

    live(body)


def test_a_fan_out_makes_an_event_for_each_answer_in_their_order(live):
    async def body(house: House) -> None:
        async def three(work: Work) -> FanOut:
            return FanOut(["a", {"b": 1}, "c"])

        event = idea()
        take(house.stage(three), await house.put(event))
        await house.over()
        outputs = house.outputs()
        assert [output.parts["draft"] for output in outputs] == ["a", {"b": 1}, "c"]
        assert [o.id for o in outputs] == [
            derive_id(event.id, "teller", "draft", i) for i in (0, 1, 2)
        ]

    live(body)


def test_a_step_that_answers_none_ends_the_run_there(live):
    async def body(house: House) -> None:
        async def nothing(work: Work) -> None:
            work.show(f"seen {work.event.trace_id}")

        take(house.stage(nothing), await house.put(idea()))
        await house.over()
        assert (house.outputs(), house.done(), house.letters) == ([], [0], [])
        assert house.shown == [f"seen {TRACE}"]

    live(body)


def test_the_event_log_tells_of_the_consume_and_after_the_commit_of_the_produce(live):
    async def body(house: House) -> None:
        found = await house.put(idea("first"), idea("second"))
        with house.store.writer.turn:  # the disk takes its time
            take(house.stage(tell), found[1:])
            await until(lambda: house.event_log.lines and not house.store._open)
            assert [line["event"] for line in house.event_log.lines] == ["consume"]
        await house.over()
        consume, produce = house.event_log.lines
        assert (consume["topic"], consume["partition"], consume["offset"]) == ("idea", 0, 1)
        assert (produce["event"], produce["topic"], produce["offset"]) == ("produce", "draft", 0)
        assert produce["message"] == house.outputs()[0]
        assert consume["trace_id"] == produce["trace_id"] == TRACE
        assert "instructions" not in produce

    live(body)


# -- many events


def test_events_of_one_run_are_processed_in_their_order(live):
    async def body(house: House) -> None:
        gate = Gate()
        stage = house.stage(gate.step)
        take(stage, await house.put(idea("1"), idea("2"), idea("3")))
        await until(lambda: gate.begun)
        gate.let("3", "2")
        await asyncio.sleep(0)
        assert (gate.begun, stage.in_flight) == (["1"], 3)
        gate.let("1")
        await house.over(3)
        assert gate.begun == ["1", "2", "3"]
        assert [output.parts["idea"] for output in house.outputs()] == ["1", "2", "3"]
        assert stage.in_flight == 0

    live(body)


def test_events_of_different_runs_are_processed_at_the_same_time_and_end_in_any_order(live):
    async def body(house: House) -> None:
        gate = Gate()
        runs = [idea(str(n), f"run {n}") for n in range(3)]
        take(house.stage(gate.step), await house.put(*runs))
        await until(lambda: len(gate.begun) == 3)
        gate.let("2")
        await house.over(1)
        await house.store.flush()
        assert house.done() == [2], "the offset says nothing about those below it"
        gate.let("0", "1")
        await house.over(3)
        await house.store.flush()
        assert house.done() == [0, 1, 2]

    live(body)


def test_records_without_a_key_wait_for_nobody(live):
    async def body(house: House) -> None:
        gate = Gate()
        raws = [(None, events.dump(idea(str(n), f"run {n}"))) for n in range(2)]
        take(house.stage(gate.step), await house.put(*raws))
        await until(lambda: len(gate.begun) == 2)
        gate.let("0", "1")
        await house.over(2)

    live(body)


def test_no_more_are_taken_than_the_limit_and_the_broker_allow(live):
    async def body(house: House) -> None:
        gate = Gate()
        stage = house.stage(gate.step, limit=2)
        found = await house.put(*[idea(str(n), f"run {n}") for n in range(2)])
        for message in found:
            await stage._admit()
            stage._take(message)
        admitted = asyncio.create_task(stage._admit())
        await until(lambda: len(gate.begun) == 2)
        assert not admitted.done()
        gate.let("1")
        await asyncio.wait_for(admitted, 5)
        for room in (house.store.room, house.event_log.room):
            room.clear()
            admitted = asyncio.create_task(stage._admit())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not admitted.done()
            room.set()
            await asyncio.wait_for(admitted, 5)
        gate.let("0")
        await house.over(2)

    live(body)


def test_an_event_that_is_delivered_again_joins_its_flight(live):
    async def body(house: House) -> None:
        gate = Gate()
        stage = house.stage(gate.step)
        found = await house.put(idea("1"))
        take(stage, found)
        await until(lambda: gate.begun)
        take(stage, await house.put())
        take(stage, await house.put())
        assert stage.in_flight == 1
        gate.let("1")
        await house.over()
        await house.store.flush()
        assert (gate.begun, len(house.outputs()), house.done()) == (["1"], 1, [0])

    live(body)


def test_an_event_that_is_finished_is_not_run_again(live):
    async def body(house: House) -> None:
        gate = Gate()
        gate.let("1")
        stage = house.stage(gate.step)
        found = await house.put(idea("1"))
        take(stage, found)
        take(stage, found)
        await house.over()
        take(stage, found)
        assert stage.in_flight == 0
        take(house.stage(gate.step), found)  # nor by the stage of the next worker
        await asyncio.sleep(0)
        assert (gate.begun, len(house.outputs())) == (["1"], 1)

    live(body)


def test_two_stages_that_read_one_topic_each_finish_for_themselves(live):
    async def body(house: House) -> None:
        other = StageSpec(pipeline="tale", name="critic", reads="idea", writes="draft", step="c")
        found = await house.put(idea())
        take(house.stage(tell), found)
        await house.over(1)
        take(house.stage(tell, other), found)
        await house.over(2)
        assert {output.stage for output in house.outputs()} == {"teller", "critic"}

    live(body)


# -- dead letters


def letter_of(house: House) -> DeadLetter:
    """The one dead letter, as it stands on its topic."""
    (message,) = messages(house.store, LETTERS)
    letter = deadletters.load(message.value or b"")
    assert house.letters == [letter]
    return letter


def test_a_step_that_fails_ends_its_event_as_a_dead_letter_with_all_that_is_known(live, caplog):
    async def body(house: House) -> None:
        async def fail(work: Work) -> str:
            raise KeyError("mood")

        event = idea()
        take(house.stage(fail), await house.put(event))
        await house.over()
        letter = letter_of(house)
        assert (letter.cause, letter.message) == ("StepFailed", "KeyError: 'mood'")
        assert "in fail" in letter.detail and 'raise KeyError("mood")' in letter.detail
        assert (letter.pipeline, letter.stage, letter.attempts) == ("tale", "teller", 1)
        assert (letter.topic, letter.partition, letter.offset) == ("idea", 0, 0)
        assert (letter.trace_id, letter.event_id) == (TRACE, event.id)
        assert letter.raw is not None and events.load(letter.raw.encode()) == event
        assert (house.outputs(), house.done()) == ([], [0])
        assert house.event_log.lines[-1]["topic"] == LETTERS

    live(body)
    (record,) = [r for r in caplog.records if getattr(r, "action", "") == "dead_letter"]
    assert f"run {TRACE} ends as a dead letter in teller" in record.getMessage()


def test_a_dead_letter_keeps_its_journal_so_that_a_replay_pays_nothing_again(live, rows):
    async def body(house: House) -> None:
        bought: list[str] = []

        async def buy(what: str) -> str:
            bought.append(what)
            return what.upper()

        async def fail(work: Work) -> str:
            assert await work.call("buy", buy, "paper") == "PAPER"
            raise ValueError("too late")

        stage = house.stage(fail)
        found = await house.put(idea())
        take(stage, found)
        await house.over()
        (key,) = rows().journal()
        assert key.startswith(f"teller/{idea().id}/")
        await stage._processing._step(Flight(found[0]))
        assert bought == ["paper"]

    live(body)


@pytest.mark.parametrize(
    ("raw", "text", "coded"),
    [(b"hello", "hello", None), (b"\xff\x00", None, base64.b64encode(b"\xff\x00").decode())],
)
def test_a_record_that_is_no_event_is_a_dead_letter_with_its_bytes(live, raw, text, coded):
    async def body(house: House) -> None:
        take(house.stage(tell), await house.put(raw))
        await house.over()
        letter = letter_of(house)
        assert letter.cause == "MalformedEvent"
        assert (letter.raw, letter.raw_base64) == (text, coded)
        assert (letter.trace_id, letter.event_id, letter.attempts) == ("a run", None, 0)
        assert house.done() == [0]

    live(body)


def test_an_empty_record_without_a_key_is_a_dead_letter_too(live):
    async def body(house: House) -> None:
        take(house.stage(tell), await house.put((None, None)))
        await house.over()
        letter = letter_of(house)
        assert (letter.message, letter.trace_id) == ("the record is empty", "idea/0/0")

    live(body)


def test_a_record_larger_than_allowed_is_a_dead_letter_and_is_not_run(live):
    async def body(house: House) -> None:
        take(house.stage(tell), await house.put(idea("x" * 3000)))
        await house.over()
        letter = letter_of(house)
        assert letter.cause == "EventTooLarge"
        assert "bytes on 'idea'; the largest event is 2000 (PENSTOCK_MAX_EVENT_BYTES)" in (
            letter.message
        )
        assert house.outputs() == []

    live(body, max_event_bytes=2000)


def test_an_output_larger_than_allowed_is_a_dead_letter_that_says_what_to_do(live):
    async def body(house: House) -> None:
        async def long(work: Work) -> str:
            return "x" * 3000

        take(house.stage(long), await house.put(idea()))
        await house.over()
        letter = letter_of(house)
        assert letter.cause == "EventTooLarge"
        assert letter.message.startswith("'tell' made an event of 3")
        assert "for 'draft'; the largest is 2000 (PENSTOCK_MAX_EVENT_BYTES)" in letter.message
        assert "carries" in letter.message
        assert house.outputs() == []

    live(body, max_event_bytes=2000)


def recursive() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


@pytest.mark.parametrize(
    "answer", [object(), {("a", "b"): 1}, "\ud800", recursive(), {"a": [1, {2: object()}]}]
)
def test_an_answer_that_json_cannot_hold_is_a_dead_letter_that_says_so(live, answer):
    async def body(house: House) -> None:
        async def odd(work: Work) -> Any:
            return answer

        take(house.stage(odd), await house.put(idea()))
        await house.over()
        letter = letter_of(house)
        assert letter.cause == "StepFailed"
        assert "'tell' answered with something that JSON cannot hold: " in letter.message

    live(body)


def test_an_error_whose_text_is_no_text_is_a_dead_letter_all_the_same(live):
    """A file name that is not UTF-8 has lone surrogates in it."""

    async def body(house: House) -> None:
        async def fail(work: Work) -> str:
            raise ValueError("no file " + b"caf\xe9".decode(errors="surrogateescape"))

        take(house.stage(fail), await house.put(idea()))
        await house.over()
        assert letter_of(house).message == "ValueError: no file caf?"
        assert house.done() == [0]

    live(body)


def test_secrets_do_not_get_into_dead_letters(live):
    async def body(house: House) -> None:
        async def fail(work: Work) -> str:
            raise ValueError("with sk-secret")

        take(house.stage(fail), await house.put(idea()))
        await house.over()
        letter = letter_of(house)
        assert letter.message == "ValueError: with [secret]"
        assert "sk-secret" not in letter.detail

    live(body, openai_api_key="sk-secret")


def test_an_event_that_cannot_be_finished_stays_undone_and_holds_nobody_up(live, caplog):
    async def body(house: House) -> None:
        spec = StageSpec(pipeline="tale", name="teller", reads="idea", writes="nowhere", step="t")

        async def last_only(work: Work) -> str | None:
            return None if work.parts["idea"] == "last" else "x"

        stage = house.stage(last_only, spec)
        take(stage, await house.put(idea("first"), idea("last")))
        await house.over()
        await house.store.flush()
        assert (house.done(), stage.in_flight) == ([1], 0)
        assert house.letters == []

    live(body)
    (record,) = [r for r in caplog.records if getattr(r, "action", "") == "stage_fault"]
    assert f"run {TRACE}: teller could neither finish nor bury an event" in record.getMessage()


# -- tries


def failing(*errors: BaseException) -> Callable[[Work], Awaitable[str]]:
    """A step that fails by each of `errors` and then answers."""
    left = list(errors)

    async def step(work: Work) -> str:
        if left:
            raise left.pop(0)
        return "x"

    return step


def away(counts: bool = True) -> Unavailable:
    error = ModelUnavailable("away")
    error.counts = counts
    return error


@pytest.mark.parametrize("error", [away(), ConnectionError("reset"), TimeoutError("late")])
def test_what_may_pass_is_tried_again(live, error):
    async def body(house: House) -> None:
        take(house.stage(failing(error, error)), await house.put(idea()))
        await house.over()
        (output,) = house.outputs()
        assert output.attempt == 3

    live(body, leaping=True)


def test_what_does_not_pass_is_a_dead_letter_after_the_last_try(live):
    async def body(house: House) -> None:
        take(house.stage(failing(*[away()] * 10)), await house.put(idea()))
        await house.over()
        letter = letter_of(house)
        assert (letter.cause, letter.message, letter.attempts) == ("ModelUnavailable", "away", 4)

    live(body, leaping=True, attempts=4)


def test_a_refusal_is_a_dead_letter_at_once(live):
    async def body(house: House) -> None:
        async def ask(work: StepWork) -> Answer:
            raise ModelRefused("no")

        stage = Stage(cast(Any, house), SPEC, ask, 100)
        take(stage, await house.put(idea()))
        await house.over()
        letter = letter_of(house)
        assert (letter.cause, letter.message, letter.attempts) == ("ModelRefused", "no", 1)
        assert letter.detail == "", "the place in our code tells nobody anything"

    live(body)


def test_failures_of_a_provider_that_is_down_are_not_counted(live):
    async def body(house: House) -> None:
        errors = [away(), *[away(counts=False)] * 20]
        take(house.stage(failing(*errors)), await house.put(idea()))
        await house.over()
        (output,) = house.outputs()
        assert output.attempt == 22

    live(body, leaping=True, attempts=2)


def test_a_next_try_does_not_pay_for_what_is_recorded(live):
    async def body(house: House) -> None:
        bought: list[str] = []
        errors = [away(), away()]

        async def buy(what: str) -> str:
            bought.append(what)
            return what

        async def step(work: Work) -> str:
            first = await work.call("buy", buy, "paper")
            second = await work.call("buy", buy, "ink")
            if errors:
                raise errors.pop()
            return f"{first} and {second}"

        take(house.stage(step), await house.put(idea()))
        await house.over()
        assert house.outputs()[0].parts["draft"] == "paper and ink"
        assert bought == ["paper", "ink"]

    live(body, leaping=True)


# -- the end


def test_an_event_that_is_cancelled_stays_undone_and_is_taken_up_again(live):
    async def body(house: House) -> None:
        gate = Gate()
        stage = house.stage(gate.step)
        found = await house.put(idea("1"), idea("2"), idea("other", "other run"))
        take(stage, found)
        await until(lambda: len(gate.begun) == 2)
        assert await stage.drain(0) == 3, "the event that waits for the first counts too"
        assert (stage.in_flight, house.done(), house.letters) == (0, [], [])
        again = Gate()
        again.let("1", "2", "other")
        take(house.stage(again.step), found)
        await house.over(3)
        assert sorted(again.begun) == ["1", "2", "other"]

    live(body)


def test_draining_waits_for_what_is_in_flight_and_takes_nothing_new(live):
    async def body(house: House) -> None:
        gate = Gate()
        stage = house.stage(gate.step)
        found = await house.put(idea("1"), idea("2"), idea("3", "another run"))
        take(stage, found[:2])
        await until(lambda: gate.begun)
        draining = asyncio.create_task(stage.drain(5))
        await asyncio.sleep(0)
        take(stage, found[2:])
        assert stage.in_flight == 2
        gate.let("1", "2", "3")
        assert await draining == 0
        await house.over(1)
        await house.store.flush()
        # The second event of the run had not begun, and comes again.
        assert (gate.begun, house.done()) == (["1"], [0])

    live(body)


def test_an_idle_stage_is_drained_at_once(live):
    async def body(house: House) -> None:
        assert await house.stage(tell).drain(60) == 0

    live(body)


def test_a_step_that_is_cancelled_by_its_own_doing_ends_as_a_dead_letter(live):
    async def body(house: House) -> None:
        async def clumsy(work: Work) -> str:
            inner = asyncio.create_task(asyncio.sleep(60))
            asyncio.get_running_loop().call_soon(inner.cancel)
            await inner
            return "x"

        stage = house.stage(clumsy)
        take(stage, await house.put(idea()))
        await house.over()
        letter = letter_of(house)
        assert letter.cause == "StepFailed" and "cancelled" in letter.message
        assert (house.done(), stage.in_flight) == ([0], 0)

    live(body)


def test_a_retry_is_said_with_its_reason_and_its_pause(live, caplog):
    async def body(house: House) -> None:
        take(house.stage(failing(away())), await house.put(idea()))
        await house.over()

    with caplog.at_level(logging.WARNING):
        live(body, leaping=True)
    (record,) = [r for r in caplog.records if getattr(r, "action", "") == "retry"]
    assert record.getMessage().startswith(f"run {TRACE}: teller failed (away); again in 0.")
    assert getattr(record, "trace_id", None) == TRACE


def test_an_event_that_is_let_go_before_its_step_began_leaves_nothing_behind(live):
    async def body(house: House) -> None:
        stage = house.stage(tell)
        found = await house.put(idea())
        take(stage, found)
        assert stage.in_flight == 1
        assert await stage.release(()) == 1, "the loop had no turn in between"
        assert stage.in_flight == 0
        take(stage, found)
        await house.over()
        assert house.done() == [0]

    live(body)


def test_a_stage_that_is_here_for_another_pipeline_takes_nothing(live):
    async def body(house: House) -> None:
        stage = house.stage(tell)
        stage.idle = True
        take(stage, await house.put(idea()))
        assert stage.in_flight == 0 and house.done() == []

    live(body)
