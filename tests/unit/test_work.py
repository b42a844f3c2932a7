"""Work: what a Python step is given, and what becomes of its answer."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from penstock.errors import ModelUnavailable, StepFailed, Unavailable
from penstock.journal import Calls, Locations
from penstock.memory import KINDS, Found
from penstock.models.gate import Gates
from penstock.record.events import Event, Usage, first_event
from penstock.settings import Settings
from penstock.signals import Shown, Signals
from penstock.steps import FanOut, Work
from penstock.worker.work import Answer, StepWork, python_step
from tests.unit.houses import env_of


class Notebook:
    """A journal that is durable at once."""

    def __init__(self) -> None:
        self.room = asyncio.Event()
        self.entries: dict[str, bytes] = {}

    def owns(self, message: Any) -> bool:
        return True

    def is_done(self, stage: str, message: Any) -> bool:
        return False

    delivered = is_done

    def refuse(self, stage: str, message: Any) -> None:
        pass

    def again(self, stage: str, message: Any) -> None:
        pass

    def recall(self, key: str, message: Any) -> bytes | None:
        return self.entries.get(key)

    def lease(self) -> None:
        return None

    def record(self, key: str, message: Any, answer: bytes) -> asyncio.Future[None]:
        self.entries[key] = answer
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future

    def finish(
        self,
        stage: str,
        message: Any,
        outputs: Any,
        step: str | None,
        then: Callable[[Locations], None],
        record: bytes = b"",
    ) -> Awaitable[None] | None:
        return None


def work_on(
    event: Event,
    notebook: Notebook,
    memory: Any = None,
    settings: Settings | None = None,
    shown: Callable[[str], object] = print,
    gates: Gates | None = None,
) -> StepWork:
    """A step's work on `event`, with what `notebook` has recorded."""
    signals = Signals()
    signals.on(Shown, lambda one: shown(one.text))
    env = env_of(
        notebook,
        signals,
        settings=settings or Settings(),
        memory=memory,
        gates=gates or Gates(signals),
    )
    return StepWork(event, Calls(notebook, f"s/{event.id}", None), env, "s")


def done(step: Callable[[Work], Any], event: Event | None = None) -> Answer:
    """What the stage gets of `step`."""

    async def main() -> Answer:
        return await python_step(step)(
            work_on(event or first_event("tale", {"idea": "a snail"}), Notebook())
        )

    return asyncio.run(main())


# -- python_step


def test_an_async_step_runs_on_the_loop_and_a_plain_one_in_a_thread():
    threads = []

    async def on_loop(work: Work) -> Any:
        threads.append(threading.current_thread())
        return work.parts["idea"]

    def in_thread(work: Work) -> Any:
        threads.append(threading.current_thread())
        return work.parts["idea"]

    assert (done(on_loop).values, done(in_thread).values) == (["a snail"], ["a snail"])
    main = threading.main_thread()
    assert [thread is main for thread in threads] == [True, False]


@pytest.mark.parametrize(
    ("made", "values"),
    [
        (None, []),
        ("", [""]),
        (0, [0]),
        ([], [[]]),
        (["a", "b"], [["a", "b"]]),
        (FanOut(["a", None]), ["a", None]),
        (FanOut([]), []),
    ],
)
def test_what_a_step_returns_becomes_the_values_of_its_outputs(made, values):
    async def step(work: Work) -> Any:
        return made

    assert done(step).values == values


def test_a_step_in_python_keeps_the_model_of_the_text_that_it_handles():
    event = Event(
        id="i", trace_id="t", pipeline="p", stage="s", parts={"a": "b"}, created=0.0,
        usage=Usage(model="offline/storyteller", requests=3, output_tokens=9),
    )  # fmt: skip

    async def step(work: Work) -> str:
        return "x"

    usage = done(step, event).usage
    assert usage is not None
    assert (usage.model, usage.requests, usage.output_tokens) == ("offline/storyteller", 0, 0)
    usage = done(step).usage
    assert usage is not None and usage.model == ""


@pytest.mark.parametrize(
    "error",
    [Unavailable("busy"), ModelUnavailable("busy"), ConnectionResetError(), TimeoutError(),
     StepFailed("on purpose")],
)  # fmt: skip
def test_what_may_pass_and_what_a_step_fails_by_on_purpose_is_raised_as_it_is(error):
    async def step(work: Work) -> str:
        raise error

    with pytest.raises(type(error)) as caught:
        done(step)
    assert caught.value is error


def test_any_other_error_is_the_steps_failure_with_its_cause():
    async def step(work: Work) -> str:
        raise LookupError("no snail")

    with pytest.raises(StepFailed, match="LookupError: no snail") as caught:
        done(step)
    assert isinstance(caught.value.__cause__, LookupError)


@pytest.mark.timeout(10)
def test_a_plain_step_that_runs_off_an_iterator_fails_and_does_not_hang():
    def step(work: Work) -> str:
        return next(iter([]))

    with pytest.raises(StepFailed, match="the function raised StopIteration"):
        done(step)


# -- StepWork


def test_a_call_is_made_once_and_its_answer_given_again():
    async def main() -> None:
        notebook, asked = Notebook(), []

        async def look(where: str, how: dict[str, int]) -> dict[str, Any]:
            asked.append((where, how))
            return {"found": [where, len(asked)]}

        event = first_event("tale", {"idea": "a snail"})
        for _ in range(2):
            work = work_on(event, notebook)
            assert await work.call("look", look, "here", {"far": 1}) == {"found": ["here", 1]}
            assert await work.call("look", look, "there", {"far": 1}) == {"found": ["there", 2]}
        assert len(asked) == 2

    asyncio.run(main())


def test_calls_of_one_function_under_two_names_are_two_calls():
    async def main() -> None:
        count = iter(range(9))

        async def draw() -> int:
            return next(count)

        work = work_on(first_event("tale", {"idea": "x"}), Notebook())
        assert [await work.call("a", draw), await work.call("b", draw)] == [0, 1]

    asyncio.run(main())


def test_a_plain_function_is_called_in_a_thread():
    async def main() -> None:
        work = work_on(first_event("tale", {"idea": "x"}), Notebook())
        name = await work.call("where", lambda: threading.current_thread().name)
        assert name != threading.main_thread().name

    asyncio.run(main())


def test_what_a_step_shows_is_shown():
    shown: list[str] = []
    work = work_on(first_event("tale", {"idea": "x"}), Notebook(), shown=shown.append)
    work.show("hello")
    assert (shown, work.parts) == (["hello"], {"idea": "x"})


class Notes:
    """A memory whose notes change from one look to the next."""

    def __init__(self) -> None:
        self.looks: list[tuple[Any, ...]] = []
        self.kept: list[tuple[str, ...]] = []

    async def open(self) -> Any:
        return self

    async def recall(self, *asked: Any, without: str) -> list[Found]:
        self.looks.append((*asked, without))
        return [Found("failure", "a task", f"look {len(self.looks)}", 0.5)]

    async def latest(self, *asked: Any, without: str) -> list[Found]:
        return await self.recall(None, *asked, without=without)

    async def remember(self, kind: str, task: str, lesson: str, *, id: str) -> None:
        self.kept.append((kind, task, lesson, id))


def test_a_second_try_gets_what_the_first_got_and_does_not_look_again():
    async def main() -> None:
        notebook, notes = Notebook(), Notes()
        event = first_event("tale", {"idea": "x"})
        for _ in range(2):
            work = work_on(event, notebook, memory=notes.open)
            (found,) = await work.recall("a task", ["failure"], 2)
            assert found == {"kind": "failure", "task": "a task", "lesson": "look 1", "score": 0.5}
            (latest,) = await work.recall(None)
            assert latest["lesson"] == "look 2"
        # What this run has remembered is no lesson for it.
        own = f"{event.trace_id}/"
        assert notes.looks == [("a task", ["failure"], 2, own), (None, KINDS, 3, own)]

    asyncio.run(main())


def test_notes_of_a_step_have_the_same_ids_at_each_try_and_without_a_memory_there_are_none():
    async def main() -> None:
        notes, event = Notes(), first_event("tale", {"idea": "x"})
        for _ in range(2):
            work = work_on(event, Notebook(), memory=notes.open)
            await work.remember("failure", "a task", "first")
            await work.remember("success", "a task", "second")
        assert notes.kept[:2] == notes.kept[2:]
        own = f"{event.trace_id}/{event.id}"
        assert [kept[-1] for kept in notes.kept[:2]] == [f"{own}/1", f"{own}/2"]
        alone = work_on(event, Notebook())
        await alone.remember("failure", "a task", "first")
        assert await alone.recall("a task") == []

    asyncio.run(main())
