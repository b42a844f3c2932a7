"""Calls at once: a slow provider has fewer in flight, and one more with each answer."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from penstock.conditions import UP, Condition
from penstock.errors import ModelBusy, ModelFailed, Unavailable
from penstock.models.gate import AtOnce, Gates
from penstock.models.names import Target
from penstock.models.providers import Providers
from penstock.models.streams import Answering, Limit, Limits
from penstock.signals import ProviderSlow, Signals
from tests.unit.conftest import run_leaping


def too_slow() -> ModelFailed:
    error = ModelFailed("'timeout_s' in bot.md is the limit")
    error.timed_out = True
    return error


class Server:
    """Calls of one server behind its gates, and how many of them are in flight."""

    def __init__(self, at_once: int | None = None, timeout_s: float = 600) -> None:
        self.signals = Signals()
        self.slow: list[int] = []
        self.signals.on(ProviderSlow, lambda said: self.slow.append(said.at_once))
        self.gates = Gates(self.signals, lambda: 0.5)
        self.at_once = at_once
        self.timeout_s = timeout_s
        self.in_flight = 0

    @property
    def gate(self) -> AtOnce:
        gate = self.gates.of("model", "m", self.at_once)[0]
        assert isinstance(gate, AtOnce)
        return gate

    async def call(self, ends: Awaitable[Unavailable | None]) -> None:
        with contextlib.suppress(Unavailable):
            calling = self.gates.call("model", "m", at_once=self.at_once, timeout_s=self.timeout_s)
            async with calling:
                self.in_flight += 1
                try:
                    error = await ends
                    if error is not None:
                        raise error
                finally:
                    self.in_flight -= 1

    def begin(self, count: int) -> list["asyncio.Future[Unavailable | None]"]:
        """That many calls are made; what each ends with."""
        ends: list[asyncio.Future[Unavailable | None]] = [asyncio.Future() for _ in range(count)]
        self.tasks = [asyncio.create_task(self.call(one)) for one in ends]
        return ends


async def settle() -> None:
    await asyncio.sleep(0.001)


def leaping(body: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await body()

    run_leaping(main())


def test_as_many_as_arrive_are_in_flight_where_nothing_was_slow():
    async def body() -> None:
        server = Server()
        ends = server.begin(300)
        await settle()
        assert server.in_flight == 300 and server.gate.condition is None
        for one in ends:
            one.set_result(None)

    leaping(body)


def test_it_begins_with_a_few_has_one_more_with_each_answer_and_the_others_wait_in_order():
    async def body() -> None:
        server = Server(2)
        ends = server.begin(9)
        await settle()
        assert server.in_flight == 2
        assert server.gate.condition == Condition("model", UP, "m has 2 calls at once, 7 wait")
        for n, in_flight in enumerate((3, 4, 5)):
            ends[n].set_result(None)
            await settle()
            assert server.in_flight == in_flight
        for one in ends[3:]:
            one.set_result(None)
        await settle()
        assert server.in_flight == 0 and server.gate.condition is None

    leaping(body)


def test_after_a_time_out_one_more_goes_when_as_many_as_are_in_flight_were_answered():
    async def body() -> None:
        server = Server(4)
        ends = server.begin(20)
        await settle()
        ends[0].set_result(too_slow())
        await settle()
        for one in ends[1:4]:
            one.set_result(ModelFailed("500"))
        seen = []
        for one in ends[4:13]:
            await settle()
            seen.append(server.in_flight)
            one.set_result(None)
        assert seen == [2, 2, 2, 3, 3, 3, 4, 4, 4]
        for one in ends[13:]:
            one.set_result(None)

    leaping(body)


def test_answers_that_took_half_of_their_time_are_no_reason_for_more():
    """One slot that takes 3 s a call, `timeout_s: 10`: ten answers cost ten calls."""

    async def body() -> None:
        server = Server(2, timeout_s=10)
        slot = asyncio.Lock()
        took, now = [], asyncio.get_running_loop().time

        async def ask() -> None:
            async def answer() -> None:
                began = now()
                async with slot:
                    await asyncio.sleep(3)
                took.append(now() - began)

            await server.call(answer())

        await asyncio.gather(*(ask() for _ in range(10)))
        assert server.gate.limit == 3 and len(took) == 10 and max(took) < 10

    leaping(body)


def test_answers_with_room_to_spare_are_no_reason_for_more():
    async def body() -> None:
        server = Server(2)
        for _ in range(10):
            (end,) = server.begin(1)
            end.set_result(None)
            await settle()
        assert server.gate.limit == 2

    leaping(body)


def test_a_call_that_takes_too_long_halves_them_once_for_all_that_left_before():
    async def body() -> None:
        server = Server()
        ends = server.begin(16)
        await settle()
        for one in ends[:8]:
            one.set_result(too_slow())
        await settle()
        assert server.slow == [8] and server.in_flight == 8
        more = server.begin(8)
        await settle()
        assert server.in_flight == 8, "the new ones wait"
        for one in ends[8:]:
            one.set_result(ModelFailed("500"))
        await settle()
        assert server.in_flight == 8
        more[0].set_result(too_slow())
        await settle()
        assert server.slow == [8, 4]
        for one in more[1:]:
            one.set_result(ModelBusy("429"))

    leaping(body)


def test_at_least_one_is_made_and_one_that_was_slow_alone_changes_nothing():
    async def body() -> None:
        server = Server()
        for _ in range(3):
            (end,) = server.begin(1)
            await settle()
            end.set_result(too_slow())
            await settle()
        assert server.slow == [] and server.gate.limit == float("inf")
        server = Server(2)
        first, second = server.begin(2)
        await settle()
        first.set_result(too_slow())
        await settle()
        assert server.gate.limit == 1
        second.set_result(too_slow())
        (end,) = server.begin(1)
        await settle()
        assert server.in_flight == 1
        end.set_result(None)

    leaping(body)


def test_who_is_cancelled_while_it_waits_or_calls_leaves_its_slot_to_others():
    async def body() -> None:
        server = Server(1)
        ends = server.begin(4)
        await settle()
        first, second, *_ = server.tasks
        second.cancel()
        first.cancel()
        await settle()
        assert server.in_flight == 1
        assert server.gate.condition == Condition("model", UP, "m has 1 calls at once, 1 wait")
        for one in ends[2:]:
            one.set_result(None)
            await settle()
        assert server.in_flight == 0

    leaping(body)


def test_the_clock_of_a_call_does_not_run_while_it_waits_for_its_slot():
    async def body() -> None:
        server = Server(1)
        limits = Limits(*[Limit(5, "the test")] * 3)

        async def ask() -> None:
            calling = server.gates.call("model", "m", at_once=1)
            async with calling, Answering("m", limits).limited():
                await asyncio.sleep(4)

        await asyncio.gather(*(ask() for _ in range(4)))

    leaping(body)


@pytest.mark.parametrize(
    ("provider", "setting", "at_once"),
    [
        ("ollama", 0, 2),
        ("local", 0, 2),
        ("server", 0, None),
        ("openai", 0, None),
        ("ollama", 7, 7),
        ("server", 7, 7),
    ],
)
def test_few_calls_are_made_at_first_of_a_model_on_ones_own_machine(provider, setting, at_once):
    providers = Providers(calls_at_once=setting)
    target = Target(provider, "m", "http://127.0.0.1:8000/v1", "none")
    assert providers.get(target).calls_at_once == at_once
