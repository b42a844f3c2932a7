"""Under way: what a step is doing, while it does it, for whoever waits for it."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from penstock.errors import ModelBusy, ModelUnavailable, Unavailable
from penstock.models.gate import Gates
from penstock.models.streams import Answering, Limit, Limits
from penstock.project.project import read_project
from penstock.record.events import first_event
from penstock.settings import Settings
from penstock.signals import Retried, Signals
from penstock.under_way import Step, UnderWay, step_under_way
from penstock.worker.env import Env
from penstock.worker.health import HealthFile, steps_of
from penstock.worker.processing import Processing
from penstock.worker.work import Answer, StepWork
from tests.unit.conftest import run_leaping
from tests.unit.houses import env_of
from tests.unit.test_processing import SPEC, message
from tests.unit.test_work import Notebook

LIMITS = Limits(*[Limit(60, "the test")] * 3)


def leaping(body: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await body()

    run_leaping(main())


@contextlib.contextmanager
def step() -> Any:
    """A step whose task this is."""
    now = UnderWay("run", "bot")
    token = step_under_way.set(now)
    try:
        yield now
    finally:
        step_under_way.reset(token)


def test_the_tokens_of_its_answer_are_counted_while_they_arrive():
    async def body() -> None:
        with step() as now:
            assert (now.as_it_is().tokens, now.as_it_is().waits_for) == (0, "")
            call = Answering("m", LIMITS)
            async with call.limited():
                call.token()
                call.token()
                shown = now.as_it_is()
        assert shown.tokens == 2 and shown.first_token_at >= shown.since

    leaping(body)


@pytest.mark.parametrize(
    ("error", "waits_for"),
    [
        (ModelUnavailable("nobody there"), "m: nobody there"),
        (ModelBusy("slow down", retry_after_s=5), "m is busy: "),
        (None, "its turn: m has 1 calls at once"),
    ],
)
def test_what_it_waits_for_at_a_gate_is_known_and_until_when(
    error: Unavailable | None, waits_for: str
):
    async def body() -> None:
        gates, release = Gates(Signals(), lambda: 0.5), asyncio.Event()

        async def call() -> None:
            with contextlib.suppress(Unavailable):
                async with gates.call("model", "m", at_once=1):
                    if error is None:
                        await release.wait()
                    else:
                        error.unreached = True
                        raise error

        first = asyncio.create_task(call())
        if error is not None:
            await first
        await asyncio.sleep(0)
        with step() as now:
            waiting = asyncio.create_task(call())
            for _ in range(3):
                await asyncio.sleep(0)
            shown = now.as_it_is()
            release.set()
            await waiting
            assert now.as_it_is().waits_for == ""
        await first
        assert shown.waits_for.startswith(waits_for)
        if error is not None:
            assert shown.until is not None and shown.until > time.time() - 1
        else:
            assert shown.until is None

    leaping(body)


def test_a_step_that_failed_waits_for_its_next_try_and_is_gone_when_it_has_ended():
    async def body() -> None:
        signals = Signals()
        env: Env = env_of(Notebook(), signals)
        shown: list[Step] = []

        async def do(work: StepWork) -> Answer:
            shown.extend(one.as_it_is() for one in env.under_way)
            if len(shown) == 1:
                raise Unavailable("not yet")
            return Answer(["once"])

        async def look() -> None:
            await asyncio.sleep(0)
            shown.extend(one.as_it_is() for one in env.under_way)

        looking: list[asyncio.Task[None]] = []
        signals.on(Retried, lambda _: looking.append(asyncio.create_task(look())))
        event = first_event("tale", {"idea": "a snail"})
        await Processing(SPEC, do).process(message(event), env)
        working, waiting, again = shown
        assert (working.trace_id, working.who) == (event.trace_id, "write")
        assert (working.waits_for, again.waits_for) == ("", "")
        assert waiting.waits_for == "its next try, after: not yet"
        assert waiting.until is not None and waiting.until > waiting.since
        assert env.under_way == set()

    leaping(body)


def test_workers_write_what_they_do_for_others_to_read(tmp_path):
    async def main() -> None:
        settings = Settings(data=tmp_path)
        mine = UnderWay("mine", "bot")
        steps, project = {mine, UnderWay("another", "bot")}, read_project(tmp_path)
        file = HealthFile(settings, (), project, tuple, Signals(), under_way=steps)
        file.start()
        try:
            while not (found := steps_of(tmp_path, settings.app_id, "mine")):
                await asyncio.sleep(0.01)
        finally:
            await file.stop()
        assert found == [mine.as_it_is()]

    asyncio.run(main())
