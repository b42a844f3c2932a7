"""A model behind the journal: what makes another request, and what is asked anew."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from agents import Model, ModelResponse, ModelSettings, ModelTracing, Tool, Usage, function_tool
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

from penstock.broker.embedded.journal import EmbeddedJournal
from penstock.journal import Calls
from penstock.models.gate import Gates
from penstock.models.journalled import JournalledModel
from penstock.models.names import Target
from penstock.models.providers import Provider
from penstock.signals import Signals
from tests.unit.conftest import Opener, messages, open_store
from tests.unit.stores import IDEA, STEP

__all__ = ["open_store"]


class Counting(Model):
    """A model of the SDK's that answers with how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def get_response(self, *args: Any, **options: Any) -> ModelResponse:
        self.asked += 1
        text = ResponseOutputText(text=f"answer {self.asked}", type="output_text", annotations=[])
        message = ResponseOutputMessage(
            id="m", content=[text], role="assistant", status="completed", type="message"
        )
        return ModelResponse(output=[message], usage=Usage(requests=1), response_id=None)

    def stream_response(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError


def before(city: str) -> str:
    """Look it up."""
    return city


def after(city: str, unit: str) -> str:
    """Look it up."""
    return f"{city} in {unit}"


class Desk:
    """One step that asks one model, taken up as often as somebody wants."""

    def __init__(self, journal: EmbeddedJournal, message: Any) -> None:
        self.journal, self.message = journal, message
        self.model = Counting()
        target = Target("server", "m", "http://127.0.0.1:1/v1", "key")
        self.provider = Provider(target, Gates(Signals()))

    async def ask(
        self, tools: Sequence[Tool] = (), anew: Sequence[str] = (), replay: int = 0
    ) -> tuple[str, str]:
        """The answer, and the name of the call."""
        calls = Calls(self.journal, STEP, self.message, anew, replay)
        model = JournalledModel(self.model, self.provider, calls, 10)
        response = await model.get_response(
            "Answer.",
            "What is the weather?",
            ModelSettings(max_tokens=50),
            list(tools),
            None,
            [],
            ModelTracing.DISABLED,
            previous_response_id=None,
            conversation_id=None,
            prompt=None,
        )
        await calls.recorded()
        (item,) = response.output
        assert isinstance(item, ResponseOutputMessage)
        (piece,) = item.content
        assert isinstance(piece, ResponseOutputText)
        return piece.text, model.names[-1]


@pytest.fixture
def work(open_store: Opener) -> Callable[[Callable[[Desk], Any]], None]:
    def run(body: Callable[[Desk], Any]) -> None:
        async def main() -> None:
            store = open_store()
            store.create("idea", 1)
            store.start(asyncio.get_running_loop())
            store.append(IDEA, 0, b"run", b"event")
            await store.flush()
            await body(Desk(EmbeddedJournal(store), messages(store, "idea")[0]))

        asyncio.run(main())

    return run


def test_a_tool_that_takes_other_arguments_makes_another_request(work):
    async def body(desk: Desk) -> None:
        old = function_tool(before, name_override="weather")
        new = function_tool(after, name_override="weather")
        assert (await desk.ask([old]))[0] == (await desk.ask([old]))[0] == "answer 1"
        assert (await desk.ask([new]))[0] == "answer 2"
        assert (await desk.ask())[0] == "answer 3"

    work(body)


def test_an_answer_that_was_judged_unusable_is_asked_for_anew_once_a_replay(work):
    async def body(desk: Desk) -> None:
        answer, name = await desk.ask()
        assert answer == "answer 1"
        assert (await desk.ask(replay=1))[0] == "answer 1", "nothing was wrong with it"
        for replay, expected in ((1, "answer 2"), (1, "answer 2"), (2, "answer 3")):
            assert await desk.ask(anew=[name], replay=replay) == (expected, name)

    work(body)
