"""Waiting for another stage, claims and checks: what a stage does before its step."""

import asyncio
import types
from typing import Any

from penstock.broker.embedded.journal import EmbeddedJournal
from penstock.journal import CLAIMS, Calls
from penstock.project.chains import StageSpec
from penstock.record.events import first_event
from penstock.worker.stage import Stage
from penstock.worker.work import Answer, StepWork, checked, python_step
from tests.unit.conftest import Opener, messages, run_leaping, until
from tests.unit.houses import env_of
from tests.unit.test_work import Notebook

TRACE = "0f8fad5b-d9cb-469f-a165-70867728950e"


def stage_of(undelivered: set[str], reads: str) -> Stage:
    """A stage that has taken nothing, where the broker has more on these topics."""
    env = env_of(Notebook(), generation=lambda: 2, undelivered=lambda topic: topic in undelivered)
    spec = StageSpec(name=reads, reads=reads, step="s").within("p")
    return Stage(env, spec, python_step(lambda work: None), 1)


def of_generation(number: int) -> Any:
    return types.SimpleNamespace(generation_id=number)


def test_a_stage_waits_for_another_and_goes_on_as_soon_as_that_one_has_no_backlog():
    async def main() -> None:
        undelivered = {"high"}
        high, low = stage_of(undelivered, "high"), stage_of(undelivered, "low")
        low.wait_for(high)
        admitted = asyncio.ensure_future(low._admit())
        await until(lambda: not high.backlog._cleared.is_set() and high.backlog.is_open())
        await asyncio.sleep(0)
        assert not admitted.done()
        undelivered.clear()
        high.backlog.look()
        await admitted

    asyncio.run(main())


def test_a_backlog_that_goes_elsewhere_without_a_word_is_looked_at_again():
    async def main() -> float:
        undelivered = {"high"}
        high, low = stage_of(undelivered, "high"), stage_of(undelivered, "low")
        low.wait_for(high)
        loop = asyncio.get_running_loop()
        loop.call_later(0.1, undelivered.clear)  # its partitions went to another worker
        started = loop.time()
        await low._admit()
        return loop.time() - started

    assert run_leaping(main()) == 0.5


def test_what_was_dropped_is_not_taken_until_it_is_delivered_again():
    async def main() -> None:
        high = stage_of(set(), "high")
        assert not high.backlog.is_open()
        high.hold()
        high._take(of_generation(2))
        assert high.backlog.is_open()
        high.on_seek()
        assert not high.backlog.is_open()

    asyncio.run(main())


def test_what_is_dropped_of_before_a_rebalance_is_not_waited_for():
    async def main() -> None:
        high = stage_of(set(), "high")
        high.on_seek()  # the seek of the rebalance was made while the event waited for room
        high._take(of_generation(1))
        assert not high.backlog.is_open() and high.in_flight == 0

    asyncio.run(main())


def test_the_first_event_of_a_run_claims_it_for_good(open_store: Opener) -> None:
    store = open_store()
    store.create("a", 1)
    for n in range(2):
        store.append(messages_tp(), 0, TRACE.encode(), str(n).encode())
    store.commit_now()
    first, second = messages(store, "a")

    async def claim(journal: EmbeddedJournal, message: Any, value: str) -> tuple[Any, bool]:
        event = first_event("p", {"a": "x"}, TRACE)
        work = StepWork(event, Calls(journal, "s/e", message), env_of(journal), "s")
        found = await work.claim(value)
        return found.value, found.mine

    async def main() -> None:
        store.start(asyncio.get_running_loop())
        journal = EmbeddedJournal(store)
        assert await claim(journal, first, "mine") == ("mine", True)
        assert await claim(journal, second, "other") == ("mine", False)
        journal.finish("s", first, [], "s/e", lambda _: None)
        await store.flush()
        store.close()

    asyncio.run(main())
    again = open_store()

    async def restarted() -> None:
        again.start(asyncio.get_running_loop())
        journal = EmbeddedJournal(again)
        assert await claim(journal, second, "other") == ("mine", False)
        assert await claim(journal, first, "mine") == ("mine", True)
        assert [step.startswith(CLAIMS) for step in again.entries] == [True]

    asyncio.run(restarted())


def messages_tp() -> Any:
    from faust.types import TP

    return TP("a", 0)


def test_an_agent_is_asked_only_when_the_check_lets_it() -> None:
    asked = []

    async def ask(work: StepWork) -> Answer:
        asked.append(work)
        return Answer(["said"])

    async def main(verdict: Any) -> list[Any]:
        work: Any = types.SimpleNamespace(event=first_event("p", {"a": "x"}))
        return (await checked(lambda _: verdict, ask)(work)).values

    assert [asyncio.run(main(verdict)) for verdict in (True, None, False)] == [
        ["said"],
        ["said"],
        [],
    ]
    assert len(asked) == 2
