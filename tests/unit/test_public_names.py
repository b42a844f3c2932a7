"""What a program and a step import: `from penstock import Client, step, tool, Work`."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import assert_type

import pytest

import penstock
from penstock import Client, Work, step, tool
from penstock.client import Client as TheClient
from penstock.errors import StepError
from penstock.project.taken_names import PUBLIC
from penstock.steps import Registry
from penstock.steps import Work as TheWork

#: Each takes most of a second to import.
COSTLY = ("agents", "faust", "mode", "openai", "aiokafka", "pydantic")


def test_the_public_names_are_those_that_are_kept() -> None:
    assert sorted(penstock.__all__) == ["Client", "Work", "step", "tool"] == sorted(PUBLIC)
    assert (Client, Work) == (TheClient, TheWork)
    assert set(penstock.__all__) <= set(dir(penstock))
    with pytest.raises(AttributeError, match="module 'penstock' has no attribute 'Stage'"):
        penstock.Stage  # noqa: B018


@pytest.mark.parametrize("statement", ["import penstock", "from penstock import Work, step, tool"])
def test_the_names_cost_nothing_before_they_are_used(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint([name for name in {COSTLY} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def collected(register: Callable[[], object]) -> Registry:
    registry = Registry()
    with registry.collecting():
        register()
    return registry


async def shout(work: Work) -> str:
    return str(work.parts["text"]).upper()


def look(what: str) -> str:
    return what


@pytest.mark.parametrize(
    ("register", "steps", "tools"),
    [
        (lambda: step(shout), {"shout": shout}, {}),
        (lambda: step("cry")(shout), {"cry": shout}, {}),
        (lambda: step(name="cry")(shout), {"cry": shout}, {}),
        (lambda: tool(look), {}, {"look": look}),
        (lambda: tool("peek")(look), {}, {"peek": look}),
        (lambda: step(tool("cry")(shout)), {"shout": shout}, {"cry": shout}),
    ],
    ids=["@step", "@step(...)", "@step(name=...)", "@tool", "@tool(...)", "@step @tool(...)"],
)
def test_a_function_is_registered_by_its_own_name_or_the_one_given(
    register: Callable[[], object],
    steps: Mapping[str, object],
    tools: Mapping[str, object],
) -> None:
    registry = collected(register)
    assert (registry.steps, registry.tools) == (steps, tools)


def test_a_decorated_function_is_the_function_and_has_its_type() -> None:
    assert step(shout) is shout and step("cry")(shout) is shout
    assert tool(look) is look and tool("peek")(look) is look
    assert_type(tool(look)("x"), str)
    assert_type(tool("peek")(look)("x"), str)


def test_a_bare_step_takes_one_argument_too() -> None:
    def two(work: Work, more: int) -> None: ...

    with pytest.raises(StepError, match="the step 'two' takes one argument, the work"):
        collected(lambda: step(two))  # type: ignore[type-var]
