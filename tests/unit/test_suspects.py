"""Suspects: what kills its worker is found among hundreds, and what only died with it goes on.

A life is simulated on a clock that leaps: processes, one after the other, with events that take
`CALL_S` each; a killer ends its process after a while, and so does whoever sends `kill -9`.
"""

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import Coroutine, Iterable
from typing import Any

import pytest

from penstock.broker.suspects import DEAD_AFTER, KilledWorker, Search, Suspect, explained
from tests.unit.conftest import run_leaping

CALL_S = 5.0
START_S = 1.0


@dataclasses.dataclass
class Life:
    """What has become of `count` events, of which those below `killers` kill their worker `after_s`
    seconds after they began."""

    count: int
    killers: int = 0
    after_s: float = 0.05
    new_each_time: int = 0
    done: set[int] = dataclasses.field(default_factory=set)
    dead_letters: list[int] = dataclasses.field(default_factory=list)
    deaths: int = 0
    #: How many ran at once at most, in each process.
    most: list[int] = dataclasses.field(default_factory=list)
    known: dict[int, Suspect] = dataclasses.field(default_factory=dict)

    async def go_on(self, kill_after_s: float | None = None) -> bool:
        """One process has lived until everything was done, or until it died: whether it did."""
        await asyncio.sleep(START_S)
        self.count += self.new_each_time
        search, running, over = Search(), set[int](), asyncio.Event()
        search.load(self.known)
        most = 0

        async def work(event: int) -> None:
            nonlocal most
            running.add(event)
            most = max(most, len(running))
            if event < self.killers:
                await asyncio.sleep(self.after_s)
                over.set()
                await asyncio.sleep(1e9)
            await asyncio.sleep(CALL_S)
            running.discard(event)
            self.done.add(event)

        async def process(event: int) -> None:
            try:
                suspect = search.find(event)
            except KilledWorker:
                self.dead_letters.append(event)
                return
            if suspect:
                async with search.admitted(event):
                    await work(event)
                return
            await search.concurrency.joined()
            await work(event)
            search.concurrency.leave()

        left = set(range(self.count)) - self.done - {*self.dead_letters}
        tasks = [asyncio.ensure_future(process(event)) for event in sorted(left)]

        def end(_: asyncio.Future[None]) -> None:
            if all(one.done() for one in tasks):
                over.set()

        for task in tasks:
            task.add_done_callback(end)
        if not tasks:
            over.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(kill_after_s):
                await over.wait()
        died = not all(one.done() for one in tasks)
        self.most.append(most)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if died:
            self.deaths += 1
            for event in running:
                before = self.known.get(event, Suspect(()))
                deaths = (*before.deaths, self.deaths)
                self.known[event] = Suspect(deaths, before.alone + (len(running) == 1))
        over_ = self.done | {*self.dead_letters}
        self.known = {event: one for event, one in self.known.items() if event not in over_}
        self.known |= explained(self.known)
        return died

    async def until_done(self, *kills_after_s: float) -> float:
        """It is all over, after kills at these ages of the processes; how many seconds the last
        process took."""
        for age in kills_after_s:
            assert await self.go_on(age) or not self.left
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            if not await self.go_on():
                return loop.time() - began
            assert self.deaths < 60, self.known

    @property
    def left(self) -> int:
        return self.count - len(self.done) - len(self.dead_letters)


def live(life: Life, *kills_after_s: float) -> float:
    return run_leaping(life.until_done(*kills_after_s))


@pytest.mark.parametrize("kills", [2, 3, 4])
@pytest.mark.parametrize("count", [1, 2, 5, 8, 30, 100])
def test_what_died_together_by_chance_is_done_in_two_calls_time(count: int, kills: int) -> None:
    life = Life(count)
    took = live(life, *[2.0] * kills)
    assert life.done == set(range(count)) and not life.dead_letters
    assert took <= START_S + 2 * CALL_S + 1
    assert life.most[-1] >= count / 2


@pytest.mark.parametrize("after_s", [0.05, CALL_S - 0.01, CALL_S + 0.01])
@pytest.mark.parametrize("count", [1, 2, 3, 13, 100, 200])
def test_a_killer_is_found_in_twelve_deaths(count: int, after_s: float) -> None:
    life = Life(count, killers=1, after_s=after_s)
    live(life)
    assert life.dead_letters == [0] and life.deaths <= 11
    assert life.done == set(range(1, count))


def test_a_killer_is_found_in_twelve_deaths_with_new_events_at_each_start() -> None:
    life = Life(200, killers=1, new_each_time=20)
    live(life)
    assert life.dead_letters == [0] and life.deaths <= 11
    assert life.done == set(range(1, life.count))


@pytest.mark.parametrize("after_s", [0.05, CALL_S - 0.01, CALL_S + 0.01])
@pytest.mark.parametrize("count", [2, 3, 13, 200])
def test_two_killers_are_found_in_twenty_four_deaths(count: int, after_s: float) -> None:
    life = Life(count, killers=2, after_s=after_s)
    live(life)
    assert sorted(life.dead_letters) == [0, 1] and life.deaths <= 24
    assert life.done == set(range(2, count))


@pytest.mark.parametrize("seed", range(10))
def test_twelve_kills_condemn_nobody(seed: int) -> None:
    rng = random.Random(seed)
    life = Life(100)
    took = live(life, *(rng.uniform(0.5, 6.0) for _ in range(12)))
    assert not life.dead_letters and life.done == set(range(100))
    assert took <= 16 * CALL_S


def test_a_killer_explains_the_deaths_at_which_it_was_there() -> None:
    found = {
        "killer": Suspect((1, 2, 3, 5, 7), DEAD_AFTER),
        "with it": Suspect((1, 2, 3)),
        "and with another": Suspect((2, 4)),
        "never": Suspect((4, 6)),
    }
    assert explained(found) == {"with it": Suspect(()), "and with another": Suspect((4,))}


def test_the_last_suspect_goes_after_all_others_and_nothing_is_beside_it() -> None:
    order: list[str] = []

    async def body() -> None:
        search = Search()
        pair = Suspect((1, 2))
        search.load({"last": Suspect((1, 2, 3, 4, 5)), "one": pair, "two": pair})

        async def run(key: str) -> None:
            async with search.admitted(key) as alone:
                order.append(key)
                assert alone == (key == "last")
                await asyncio.sleep(CALL_S)
                assert search.concurrency.running == (0 if alone else 1)

        async def new() -> None:
            await asyncio.sleep(4 * CALL_S)
            await search.concurrency.joined()
            order.append("new")

        await asyncio.gather(*map(run, ("last", "one", "two")), new())

    run_leaping(body())
    assert sorted(order[:2]) == ["one", "two"] and order[2:] == ["last", "new"]


def test_suspects_that_are_read_anew_go_on_where_they_were() -> None:
    """As on Kafka, when partitions change hands."""
    ran: list[int] = []

    async def body() -> None:
        search = Search()
        known: dict[int, Suspect] = {n: Suspect((1, 2)) for n in range(8)}
        search.load(known)

        async def run(key: int) -> None:
            async with search.admitted(key):
                ran.append(key)
                await asyncio.sleep(CALL_S)

        tasks = _begin(run(key) for key in known)
        await asyncio.sleep(1)
        assert ran == [0, 1, 2, 3]
        search.load({key: one for key, one in known.items() if key != 5})
        await asyncio.sleep(0)
        assert ran == [0, 1, 2, 3, 5], "this one is no suspect any more, and the others wait"
        await asyncio.gather(*tasks)
        assert sorted(ran) == list(range(8))

    run_leaping(body())


def _begin(runs: Iterable[Coroutine[Any, Any, None]]) -> list[asyncio.Future[None]]:
    return [asyncio.ensure_future(one) for one in runs]
