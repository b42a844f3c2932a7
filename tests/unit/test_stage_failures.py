"""A stage's failures: what becomes a dead letter, and what is tried again."""

import asyncio
import base64
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import httpx
import pytest
import requests
import urllib3
import urllib3.exceptions

from penstock.errors import ModelRefused, ModelUnavailable, Unavailable
from penstock.project.chains import StageSpec
from penstock.record import dead_letters as deadletters
from penstock.record import events
from penstock.record.dead_letters import DeadLetter
from penstock.steps import Work
from penstock.worker.processing import Flight
from penstock.worker.stage import Stage
from penstock.worker.work import Answer, StepWork
from tests.unit.conftest import messages
from tests.unit.houses import DEAD_LETTERS, SPEC, TRACE, House, idea, live, take, write

__all__ = ["live"]


# -- dead letters


def dead_letter_of(house: House) -> DeadLetter:
    """The one dead letter, as it stands on its topic."""
    (message,) = messages(house.store, DEAD_LETTERS)
    dead_letter = deadletters.load(message.value or b"")
    assert house.dead_letters == [dead_letter]
    return dead_letter


def test_a_step_that_fails_ends_its_event_as_a_dead_letter_with_all_that_is_known(live, caplog):
    async def body(house: House) -> None:
        async def fail(work: Work) -> str:
            raise KeyError("mood")

        event = idea()
        take(house.stage(fail), await house.put(event))
        await house.over()
        dead_letter = dead_letter_of(house)
        assert (dead_letter.cause, dead_letter.message) == ("StepFailed", "KeyError: 'mood'")
        assert "in fail" in dead_letter.detail and 'raise KeyError("mood")' in dead_letter.detail
        assert (dead_letter.pipeline, dead_letter.stage, dead_letter.attempts) == (
            "tale",
            "teller",
            1,
        )
        assert (dead_letter.topic, dead_letter.partition, dead_letter.offset) == ("idea", 0, 0)
        assert (dead_letter.trace_id, dead_letter.event_id) == (TRACE, event.id)
        assert dead_letter.raw is not None and events.load(dead_letter.raw.encode()) == event
        assert (house.outputs(), house.done()) == ([], [0])
        assert house.event_log.lines[-1]["topic"] == DEAD_LETTERS

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
        await stage._process(Flight(found[0]))
        assert bought == ["paper"]

    live(body)


@pytest.mark.parametrize(
    ("raw", "text", "coded"),
    [(b"hello", "hello", None), (b"\xff\x00", None, base64.b64encode(b"\xff\x00").decode())],
)
def test_a_record_that_is_no_event_is_a_dead_letter_with_its_bytes(live, raw, text, coded):
    async def body(house: House) -> None:
        take(house.stage(write), await house.put(raw))
        await house.over()
        dead_letter = dead_letter_of(house)
        assert dead_letter.cause == "MalformedEvent"
        assert (dead_letter.raw, dead_letter.raw_base64) == (text, coded)
        assert (dead_letter.trace_id, dead_letter.event_id, dead_letter.attempts) == (
            "a run",
            None,
            0,
        )
        assert house.done() == [0]

    live(body)


def test_an_empty_record_without_a_key_is_a_dead_letter_too(live):
    async def body(house: House) -> None:
        take(house.stage(write), await house.put((None, None)))
        await house.over()
        dead_letter = dead_letter_of(house)
        assert (dead_letter.message, dead_letter.trace_id) == ("the record is empty", "idea/0/0")

    live(body)


def test_a_record_larger_than_allowed_is_a_dead_letter_and_is_not_run(live):
    async def body(house: House) -> None:
        take(house.stage(write), await house.put(idea("x" * 3000)))
        await house.over()
        dead_letter = dead_letter_of(house)
        assert dead_letter.cause == "EventTooLarge"
        assert "bytes on 'idea'; the largest event is 2000 (PENSTOCK_MAX_EVENT_BYTES)" in (
            dead_letter.message
        )
        assert house.outputs() == []

    live(body, max_event_bytes=2000)


def test_an_output_larger_than_allowed_is_a_dead_letter_that_says_what_to_do(live):
    async def body(house: House) -> None:
        async def long(work: Work) -> str:
            return "x" * 3000

        take(house.stage(long), await house.put(idea()))
        await house.over()
        dead_letter = dead_letter_of(house)
        assert dead_letter.cause == "EventTooLarge"
        assert dead_letter.message.startswith("'write' made an event of 3")
        assert "for 'draft'; the largest is 2000 (PENSTOCK_MAX_EVENT_BYTES)" in dead_letter.message
        assert "carries" in dead_letter.message
        assert house.outputs() == []

    live(body, max_event_bytes=2000)


def recursive() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


@pytest.mark.parametrize(
    "answer",
    [object(), {("a", "b"): 1}, math.nan, [1e999], recursive(), {"a": [1, {2: object()}]}],
)
def test_an_answer_that_json_cannot_hold_is_a_dead_letter_that_says_so(live, answer):
    async def body(house: House) -> None:
        async def odd(work: Work) -> Any:
            return answer

        take(house.stage(odd), await house.put(idea()))
        await house.over()
        dead_letter = dead_letter_of(house)
        assert dead_letter.cause == "StepFailed"
        assert "'write' answered with something that JSON cannot hold: " in dead_letter.message

    live(body)


def test_half_a_character_in_an_answer_goes_on_as_one_that_says_so(live):
    async def body(house: House) -> None:
        async def odd(work: Work) -> Any:
            return {"a \ud83d": ["b \ud83d\ude00 c \ude00", 1.5]}

        take(house.stage(odd), await house.put(idea()))
        await house.over()
        (draft,) = house.outputs()
        assert draft.parts["draft"] == {"a \ufffd": ["b 😀 c \ufffd", 1.5]}

    live(body)


def test_an_error_whose_text_is_no_text_is_a_dead_letter_all_the_same(live):
    """A file name that is not UTF-8 has lone surrogates in it."""

    async def body(house: House) -> None:
        async def fail(work: Work) -> str:
            raise ValueError("no file " + b"caf\xe9".decode(errors="surrogateescape"))

        take(house.stage(fail), await house.put(idea()))
        await house.over()
        assert dead_letter_of(house).message == "ValueError: no file caf?"
        assert house.done() == [0]

    live(body)


def test_secrets_do_not_get_into_dead_letters(live):
    async def body(house: House) -> None:
        async def fail(work: Work) -> str:
            raise ValueError("with sk-secret")

        take(house.stage(fail), await house.put(idea()))
        await house.over()
        dead_letter = dead_letter_of(house)
        assert dead_letter.message == "ValueError: with [secret]"
        assert "sk-secret" not in dead_letter.detail

    live(body, openai_api_key="sk-secret")


def test_a_key_that_is_echoed_is_in_no_record(live):
    coded = base64.b64encode(b"a:sk-secret-key").decode()

    async def body(house: House) -> None:
        async def echo(work: Work) -> dict[str, str]:
            called = await work.call("echo", lambda: f"called with sk-secret-key, {coded}")
            return {"called": called, "own": "sk-secret-key"}

        take(house.stage(echo), await house.put(idea()))
        await house.over()
        (draft,) = messages(house.store, "draft")
        raw = draft.value or b""
        assert b"sk-secret" not in raw and coded[2:-2].encode() not in raw
        made = events.load(raw).parts["draft"]
        assert made["own"] == "[secret]" and made["called"].startswith("called with [secret], ")

    live(body, openai_api_key="sk-secret-key")


def test_an_event_that_cannot_be_finished_stays_undone_and_holds_nobody_up(live, caplog):
    async def body(house: House) -> None:
        spec = StageSpec(name="teller", reads="idea", writes="nowhere", step="t").within("tale")

        async def last_only(work: Work) -> str | None:
            return None if work.parts["idea"] == "last" else "x"

        stage = house.stage(last_only, spec)
        take(stage, await house.put(idea("first"), idea("last")))
        await house.over()
        await house.store.flush()
        assert (house.done(), stage.in_flight) == ([1], 0)
        assert house.dead_letters == []

    live(body)
    (record,) = [r for r in caplog.records if getattr(r, "action", "") == "stage_fault"]
    said = f"run {TRACE}: teller could neither finish an event nor write its dead letter"
    assert record.getMessage() == said and record.exc_info


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


POOL = urllib3.HTTPConnectionPool("localhost")


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("late"),
        httpx.RemoteProtocolError("server disconnected"),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ServerTimeoutError(),
        requests.ConnectionError("refused"),
        requests.ReadTimeout("late"),
        urllib3.exceptions.ReadTimeoutError(POOL, "", "late"),
        urllib3.exceptions.MaxRetryError(POOL, ""),
    ],
    ids=lambda error: f"{type(error).__module__.partition('.')[0]} {type(error).__name__}",
)
def test_connection_errors_of_the_usual_clients_in_a_step_are_tried_again(live, error):
    async def body(house: House) -> None:
        async def fetch(work: Work) -> str:
            errors.append(error)
            if len(errors) < 3:
                raise error
            return "there"

        errors: list[Exception] = []
        take(house.stage(fetch), await house.put(idea()))
        await house.over()
        (output,) = house.outputs()
        assert output.attempt == 3

    live(body, leaping=True)


def test_another_error_of_a_client_in_a_step_is_a_dead_letter_at_once(live):
    async def body(house: House) -> None:
        async def fetch(work: Work) -> str:
            raise httpx.UnsupportedProtocol("ftp")

        take(house.stage(fetch), await house.put(idea()))
        await house.over()
        assert dead_letter_of(house).attempts == 1

    live(body, leaping=True)


def test_what_does_not_pass_is_a_dead_letter_after_the_last_try(live):
    async def body(house: House) -> None:
        take(house.stage(failing(*[away()] * 10)), await house.put(idea()))
        await house.over()
        dead_letter = dead_letter_of(house)
        assert (dead_letter.cause, dead_letter.message, dead_letter.attempts) == (
            "ModelUnavailable",
            "away",
            4,
        )

    live(body, leaping=True, attempts=4)


def test_a_refusal_is_a_dead_letter_at_once(live):
    async def body(house: House) -> None:
        async def ask(work: StepWork) -> Answer:
            raise ModelRefused("no")

        stage = Stage(house.env, SPEC, ask, 100)
        take(stage, await house.put(idea()))
        await house.over()
        dead_letter = dead_letter_of(house)
        assert (dead_letter.cause, dead_letter.message, dead_letter.attempts) == (
            "ModelRefused",
            "no",
            1,
        )
        assert dead_letter.detail == "", "the place in our code tells nobody anything"

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
        dead_letter = dead_letter_of(house)
        assert dead_letter.cause == "StepFailed" and "cancelled" in dead_letter.message
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
