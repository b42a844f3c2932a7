"""Readiness: a pipeline begins no runs while a step of it lacks what it declares that it needs."""

import asyncio
from collections.abc import Iterable

import pytest

from penstock.conditions import DOWN, UP, Condition
from penstock.errors import SandboxUnavailable, Unavailable
from penstock.models.gate import DOWN_AFTER, Gates
from penstock.project.chains import StageSpec
from penstock.settings import Settings
from penstock.signals import Signal, Signals, StepNotReady, StepReady
from penstock.steps import Registry, built_in, step
from penstock.worker.readiness import Readiness

LACKS = SandboxUnavailable("This kernel has no Landlock.")


def stage(step: str | None = None, check: str | None = None) -> StageSpec:
    agent = None if step else "teller"
    return StageSpec(name="s", reads="t", step=step, check=check, agent=agent).within("p")


class House:
    """Readiness of one step, `tried`, that answers with each of `answers`."""

    def __init__(self, *answers: str | SandboxUnavailable) -> None:
        self.answers = list(answers)
        self.said: list[Signal] = []
        signals = Signals()
        signals.on(Signal, self.said.append)
        self.gates = Gates(Signals())
        registry = Registry(ready={"tried": self._look})
        self.readiness = Readiness(registry, Settings(), self.gates, signals)

    async def _look(self, settings: Settings) -> str:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def is_ready(self, *stages: StageSpec) -> bool:
        return await self.readiness.of(stages or (stage("tried"),))


def asked(house: House, times: int) -> list[bool]:
    async def main() -> list[bool]:
        return [await house.is_ready() for _ in range(times)]

    return asyncio.run(main())


@pytest.mark.parametrize("stages", [(), (stage("other"),), (stage(), stage("other"))])
def test_steps_that_need_nothing_are_ready(stages: Iterable[StageSpec]):
    assert asyncio.run(House().readiness.of(stages))


def test_a_step_is_asked_until_it_is_ready_and_both_are_said_once():
    house = House(LACKS, LACKS, "it holds")
    assert asked(house, 4) == [False, False, True, True]
    assert house.said == [StepNotReady("tried", LACKS.message), StepReady("tried", "it holds")]
    assert house.readiness.conditions == [Condition("tried", UP, "it holds")]
    said = "This kernel has no Landlock. Until then the step 'tried' is not run: its events wait"
    assert str(house.said[0]).startswith(said)


def test_what_a_step_lacks_is_its_condition():
    house = House(LACKS)
    assert asked(house, 1) == [False]
    assert house.readiness.conditions == [Condition("tried", DOWN, LACKS.message)]


def test_the_check_of_a_stage_is_a_step_too():
    house = House(LACKS)
    assert not asyncio.run(house.is_ready(stage(check="tried")))


def test_while_calls_wait_at_a_steps_gate_it_is_not_ready_and_not_asked():
    async def main() -> None:
        house = House("it holds")
        assert await house.is_ready()
        for _ in range(DOWN_AFTER):
            with pytest.raises(Unavailable):
                async with house.gates.call("tried", "The one"):
                    raise Unavailable("away")
        assert not await house.is_ready()
        (condition,) = house.readiness.conditions
        assert (condition.state, condition.reason) == (DOWN, "The one: away")
        _, gate, _ = house.gates.of("tried", "The one")
        gate.succeeded(asyncio.get_running_loop().time())
        assert await house.is_ready()
        assert house.readiness.conditions == [Condition("tried", UP, "it holds")]

    asyncio.run(main())


def test_a_step_declares_what_it_needs_where_it_is_registered():
    def there(settings: Settings) -> str:
        return "it is there"

    registry = built_in()
    with registry.collecting():

        @step("mine", ready=there)
        def mine(work: object) -> None:
            """Nothing."""

    assert registry.ready["mine"] is there
    assert set(registry.ready) == {"mine", "sandbox"}
