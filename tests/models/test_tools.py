"""Tools: what a card's agent may call, recorded, and said when it raises."""

import asyncio
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from agents import Model, ModelResponse, Usage
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

from penstock.broker.embedded.journal import EmbeddedJournal
from penstock.journal import Calls
from penstock.models.names import Target
from penstock.models.providers import Providers
from penstock.project.cards import read_card
from penstock.project.chains import StageSpec
from penstock.record.events import first_event
from penstock.settings import Settings
from penstock.signals import Signals, ToolFailed
from penstock.steps import Registry
from penstock.worker.runner import agent_step
from penstock.worker.work import StepWork
from tests.unit.conftest import Opener, messages, open_store
from tests.unit.houses import env_of
from tests.unit.stores import IDEA, STEP

__all__ = ["open_store"]
SPEC = StageSpec(name="teller", reads="idea", writes="draft", agent="looker").within("tale")


class Asking(Model):
    """A model that calls the tool once, and answers with what it was told."""

    async def get_response(self, *args: Any, **options: Any) -> ModelResponse:
        results = [one for one in args[1] if isinstance(one, dict) and "output" in one]
        item: Any
        if results:
            text = ResponseOutputText(text=results[0]["output"], type="output_text", annotations=[])
            item = ResponseOutputMessage(
                id="m", content=[text], role="assistant", status="completed", type="message"
            )
        else:
            item = ResponseFunctionToolCall(
                arguments='{"key": "x"}', call_id="1", name="look", type="function_call"
            )
        return ModelResponse(output=[item], usage=Usage(requests=1), response_id=None)

    def stream_response(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError


@pytest.fixture
def answer(open_store: Opener, tmp_path: pathlib.Path) -> Callable[..., tuple[Any, list[Any]]]:
    """What an agent with the tool `look` answers when its step is done twice, and what was said."""

    def run(look: Callable[[str], str]) -> tuple[Any, list[Any]]:
        said: list[Any] = []

        async def main() -> Any:
            store = open_store()
            store.create("idea", 1)
            store.start(asyncio.get_running_loop())
            store.append(IDEA, 0, b"run", b"event")
            await store.flush()
            signals = Signals()
            signals.on(ToolFailed, said.append)
            (tmp_path / "looker.md").write_text("---\ntools: [look]\n---\nLook it up.\n")
            registry = Registry()
            registry.tools["look"] = look
            providers = Providers()
            target = Target("server", "m", "http://127.0.0.1:1/v1", "key")
            providers.get(target).model = Asking()
            card = read_card(tmp_path / "looker.md")
            do = agent_step(SPEC, card, target, providers, registry, Settings())
            journal = EmbeddedJournal(store)
            event = first_event("tale", {"idea": "a snail"})
            made = []
            for _ in range(2):
                calls = Calls(journal, STEP, messages(store, "idea")[0])
                made.append(await do(StepWork(event, calls, env_of(journal, signals), "teller")))
                await calls.recorded()
            assert made[0].values == made[1].values
            await providers.close()
            return made[0].values

        return asyncio.run(main()), said

    return run


def test_a_tools_answer_is_recorded_and_given_to_the_model(answer):
    looked: list[str] = []

    def look(key: str) -> str:
        """Look a key up."""
        looked.append(key)
        return f"{key} is 7"

    assert answer(look) == (["x is 7"], [])
    assert looked == ["x"]


def test_a_tool_that_raises_is_said_at_once_and_the_model_gets_the_error(answer):
    def look(key: str) -> str:
        """Look a key up."""
        raise ConnectionError("the index is away")

    values, (said,) = answer(look)
    assert values == [
        "The tool failed: ConnectionError: the index is away. Mend its arguments, or go on"
        " without it."
    ]
    assert str(said).endswith(
        "the tool 'look' raised ConnectionError: the index is away. The model was told"
    )
