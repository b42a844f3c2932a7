"""The journal: a recorded call is never made again, and nothing is used before it is recorded."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from faust.types import TP

from penstock.broker.embedded.journal import EmbeddedJournal
from penstock.broker.embedded.store import Store
from penstock.journal import TEXTS, Calls
from penstock.redaction import Redactor
from tests.unit.conftest import Opener, Rows, messages, until

IDEA, STEP = TP("idea", 0), "teller/event-1"


class Model:
    """Answers every question with how many it has answered, and counts."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self) -> bytes:
        self.asked += 1
        return f"answer {self.asked}".encode()


class Desk:
    """A journal over a store, and the one event that a step works on."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.journal = EmbeddedJournal(store)
        self.message = messages(store, "idea")[0]

    def calls(self, step: str = STEP) -> Calls:
        """The calls of the step when it is taken up: the first time, or again after a crash."""
        return Calls(self.journal, step, self.message)


Body = Callable[[Desk], Coroutine[Any, Any, None]]


@pytest.fixture
def work(open_store: Opener) -> Callable[[Body], None]:
    """Runs a coroutine function on the worker's loop, with a journal and an event."""

    def run(body: Body) -> None:
        async def main() -> None:
            store = open_store()
            for topic in ("idea", "draft", "wide"):
                store.create(topic, 4 if topic == "wide" else 1)
            store.start(asyncio.get_running_loop())
            store.append(IDEA, 0, b"run", b"event")
            await store.flush()
            await body(Desk(store))

        asyncio.run(main())

    return run


def test_a_recorded_answer_is_given_again_and_not_asked_for(work):
    async def body(desk: Desk) -> None:
        model = Model()
        assert await desk.calls().once(b"question", model) == b"answer 1"
        await desk.store.flush()
        assert await desk.calls().once(b"question", model) == b"answer 1"
        assert model.asked == 1

    work(body)


def test_an_answer_outlives_the_process(work, open_store):
    async def first(desk: Desk) -> None:
        await desk.calls().once(b"question", Model())
        await desk.store.flush()
        desk.store.close()

    async def second() -> None:
        store = open_store()
        store.start(asyncio.get_running_loop())
        model = Model()
        assert await Desk(store).calls().once(b"question", model) == b"answer 1"
        assert model.asked == 0

    work(first)
    asyncio.run(second())


def test_equal_requests_of_one_step_are_calls_of_their_own(work):
    async def body(desk: Desk) -> None:
        model = Model()

        async def three(calls: Calls) -> list[bytes]:
            return [await calls.once(b"question", model) for _ in range(3)]

        first = await three(desk.calls())
        assert first == [b"answer 1", b"answer 2", b"answer 3"]
        assert await three(desk.calls()) == first
        assert model.asked == 3

    work(body)


def test_requests_are_distinguished_by_what_they_ask_not_by_their_order(work):
    async def body(desk: Desk) -> None:
        model, calls = Model(), desk.calls()
        a, b = await calls.once(b"a", model), await calls.once(b"b", model)
        again = desk.calls()
        assert (await again.once(b"b", model), await again.once(b"a", model)) == (b, a)
        assert model.asked == 2

    work(body)


def test_steps_do_not_share_answers(work):
    async def body(desk: Desk) -> None:
        model = Model()
        await desk.calls("teller/event-1").once(b"question", model)
        await desk.calls("teller/event-2").once(b"question", model)
        await desk.calls("critic/event-1").once(b"question", model)
        assert model.asked == 3

    work(body)


def test_nothing_goes_out_before_the_earlier_answer_is_durable(work, rows):
    async def body(desk: Desk) -> None:
        calls, seen = desk.calls(), rows()
        await calls.once(b"first", Model())
        out: list[dict[str, bytes]] = []

        async def look() -> bytes:
            out.append(seen.journal())
            return b"x"

        with desk.store.writer.connection_lock:  # the disk takes its time
            second = asyncio.create_task(calls.once(b"second", look))
            await until(lambda: not desk.store._open)
            await asyncio.sleep(0)
            assert out == []
        await second
        assert [list(there.values()) for there in out] == [[b"answer 1"]]

    work(body)


def test_calls_made_at_the_same_time_wait_for_the_earlier_answer_each(work, rows):
    """A model that asks for two tools at once: neither runs before its answer is durable."""

    async def body(desk: Desk) -> None:
        calls, seen = desk.calls(), rows()
        await calls.once(b"model", Model())
        found: list[int] = []

        async def tool() -> bytes:
            found.append(len(seen.journal()))
            return b"x"

        with desk.store.writer.connection_lock:
            tools = [asyncio.create_task(calls.once(name, tool)) for name in (b"a", b"b", b"c")]
            await until(lambda: not desk.store._open)
            await asyncio.sleep(0)
            assert found == []
        await asyncio.gather(*tools)
        assert len(found) == 3 and min(found) >= 1

    work(body)


def test_what_is_recorded_while_others_wait_is_waited_for_too(work, rows):
    async def body(desk: Desk) -> None:
        calls, seen, lock = desk.calls(), rows(), desk.store.writer.connection_lock
        await calls.once(b"model", Model())

        async def tool() -> bytes:
            if lock.locked():
                raise ConnectionError("away")
            lock.acquire()  # from here on the disk takes its time
            return b"x"

        found: list[int] = []

        async def look() -> bytes:
            found.append(len(seen.journal()))
            return b"x"

        # Both wait for the model's answer; the second, that fails, must not forget the first's.
        with lock:
            both = [asyncio.create_task(calls.once(name, tool)) for name in (b"a", b"b")]
            await until(lambda: not desk.store._open)
        await asyncio.wait(both)
        assert isinstance(both[1].exception(), ConnectionError)
        after = asyncio.create_task(calls.once(b"model again", look))
        for _ in range(10):  # iterations of the loop, in which it would go out
            await asyncio.sleep(0)
        lock.release()
        await after
        assert found == [2]

    work(body)


def test_a_call_that_is_cancelled_while_it_waits_disturbs_no_other(work):
    async def body(desk: Desk) -> None:
        calls = desk.calls()
        await calls.once(b"model", Model())
        with desk.store.writer.connection_lock:
            left = asyncio.create_task(calls.once(b"a", Model()))
            stays = asyncio.create_task(calls.once(b"b", Model()))
            await until(lambda: not desk.store._open)
            left.cancel()
            await asyncio.wait([left])
        assert left.cancelled()
        assert await stays == b"answer 1"

    work(body)


def test_a_call_that_fails_is_not_recorded_and_its_error_is_raised(work):
    async def body(desk: Desk) -> None:
        async def fail() -> bytes:
            raise ConnectionError("away")

        calls = desk.calls()
        with pytest.raises(ConnectionError):
            await calls.once(b"question", fail)
        await desk.store.flush()
        assert desk.store.entries == {}

    work(body)


def test_what_a_step_asked_again_after_a_failure_is_recalled_on_its_first_try(work):
    """A step that tries a call twice itself: after a crash, its first try gets the answer."""

    async def body(desk: Desk) -> None:
        async def fail() -> bytes:
            raise ConnectionError("away")

        model, calls = Model(), desk.calls()
        with pytest.raises(ConnectionError):
            await calls.once(b"question", fail)
        assert await calls.once(b"question", model) == b"answer 1"
        assert await desk.calls().once(b"question", model) == b"answer 1"
        assert model.asked == 1

    work(body)


def test_finish_drops_the_entries_of_the_step_and_marks_the_event(work, rows):
    async def body(desk: Desk) -> None:
        await desk.calls().once(b"question", Model())
        await desk.store.flush()
        notified: list[Any] = []
        assert not desk.journal.is_done("teller", desk.message)
        waiting = desk.journal.finish(
            "teller", desk.message, [("wide", b"run", b"one"), ("draft", b"run", b"two")], STEP,
            notified.append,
        )  # fmt: skip
        assert waiting is None
        await until(lambda: notified)
        partition = desk.store.partition_of("wide", b"run")
        assert notified == [[(partition, 0), (0, 0)]]
        assert desk.journal.is_done("teller", desk.message)
        assert not desk.journal.is_done("critic", desk.message), "each reader has its own"
        seen: Rows = rows()
        assert (seen.journal(), seen.low("teller")) == ({}, 1)
        assert desk.journal.recall(f"{STEP}/any-0", None) is None

    work(body)


def test_finish_without_a_step_keeps_its_entries_for_a_replay(work):
    async def body(desk: Desk) -> None:
        model = Model()
        await desk.calls().once(b"question", model)
        notified: list[Any] = []
        desk.journal.finish(
            "teller", desk.message, [("draft", b"run", b"x")], None, notified.append
        )
        await until(lambda: notified)
        assert await desk.calls().once(b"question", model) == b"answer 1"
        assert model.asked == 1

    work(body)


def test_finish_is_waited_for_while_the_disk_is_behind(work):
    async def body(desk: Desk) -> None:
        with desk.store.writer.connection_lock:
            desk.store.room.clear()
            waiting = desk.journal.finish("teller", desk.message, [], STEP, lambda _: None)
            assert waiting is not None
            task = asyncio.ensure_future(waiting)
            await until(lambda: not desk.store._open)
            assert not task.done()
        await asyncio.wait_for(task, 5)

    work(body)


def test_who_waits_for_a_record_may_leave(work):
    async def body(desk: Desk) -> None:
        recorded = desk.journal.record(f"{STEP}/a-0", desk.message, b"x")
        recorded.cancel()
        await desk.store.flush()
        assert desk.journal.recall(f"{STEP}/a-0", None) == b"x"

    work(body)


def test_a_secret_is_in_no_recorded_answer_and_whoever_asked_sees_what_was_recorded(work):
    async def body(desk: Desk) -> None:
        async def ask() -> bytes:
            return b'{"said": "your key is sk-secret-key"}'

        redact = Redactor(["sk-secret-key"]).record
        calls = Calls(desk.journal, STEP, desk.message, redact=redact)
        first = await calls.once(b"hello", ask)
        await calls.recorded()
        recorded = await desk.calls().once(b"hello", ask)
        assert first == recorded == b'{"said":"your key is [secret]"}'

    work(body)


def test_a_step_goes_on_with_the_text_that_its_first_answer_was_recorded_with(work):
    async def body(desk: Desk) -> None:
        model = Model()
        first = desk.calls()
        assert first.pin("old", "Be kind.") == "Be kind."
        assert desk.calls().pin("new", "Be brief.") == "Be brief."  # nothing is recorded yet
        await first.once(b"question", model)
        await first.recorded()
        assert desk.calls().pin("new", "Be brief.") == "Be kind."
        assert desk.calls("teller/event-2").pin("new", "Be brief.") == "Be brief."
        replay = Calls(desk.journal, STEP, desk.message, replay=1)
        assert replay.pin("new", "Be brief.") == "Be brief."  # the card was mended for it

    work(body)


def test_a_text_stays_until_no_step_is_left_that_began_with_it(work):
    async def body(desk: Desk) -> None:
        calls = [desk.calls(step) for step in ("teller/a", "teller/b")]
        for one in calls:
            one.pin("old", "Be kind.")
            await one.once(b"question", Model())
            await one.recorded()
        texts = [key for key in journal(desk.store) if key.startswith(TEXTS)]
        assert texts == [".texts/old/text"]
        for step, left in (("teller/a", texts), ("teller/b", [])):
            desk.store.finish("teller", IDEA, 0, step=step)
            desk.store.drop_unpinned()
            await desk.store.flush()
            assert [key for key in journal(desk.store) if key.startswith(TEXTS)] == left
        assert journal(desk.store) == []

    work(body)


def journal(store: Store) -> list[str]:
    return [key for (key,) in store.read_db.execute("select key from journal order by key")]
