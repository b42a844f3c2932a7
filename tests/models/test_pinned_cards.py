"""Cards that were edited while a step was open: it goes on with the one that it began with."""

import asyncio
import pathlib
import sys
from typing import Any

import pytest
from agents import Model, ModelResponse, Usage
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

from penstock.broker.embedded.journal import EmbeddedJournal
from penstock.errors import Unavailable
from penstock.journal import Calls
from penstock.models.names import resolve
from penstock.project.cards import parse_card
from penstock.project.chains import StageSpec
from penstock.project.project import Project
from penstock.record.events import first_event
from penstock.settings import Settings
from penstock.signals import CardEdited, Signals
from penstock.steps import Registry
from penstock.worker.clients import Clients
from penstock.worker.stages import work_of
from penstock.worker.work import Answer, StepWork
from tests.unit.conftest import Opener, messages, open_store
from tests.unit.houses import env_of
from tests.unit.stores import IDEA, STEP

__all__ = ["open_store"]
MODEL = "http://127.0.0.1:1/v1#m"
SPEC = StageSpec(name="teller", reads="idea", writes="draft", agent="bard", task="write")


class Counting(Model):
    """Answers with what it was told to be, and counts."""

    asked = 0

    async def get_response(self, *args: Any, **_: Any) -> ModelResponse:
        self.asked += 1
        text = ResponseOutputText(text=args[0], type="output_text", annotations=[])
        item = ResponseOutputMessage(
            id="m", content=[text], role="assistant", status="completed", type="message"
        )
        return ModelResponse(output=[item], usage=Usage(requests=1), response_id=None)

    def stream_response(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError


class House:
    """A stage with an agent, its store, and what its signals said."""

    def __init__(self, open_store: Opener) -> None:
        self.store = open_store()
        self.store.create("idea", 1)
        self.model = Counting()
        self.said: list[CardEdited] = []
        signals = Signals()
        signals.on(CardEdited, self.said.append)
        self.env = env_of(EmbeddedJournal(self.store), signals)
        self.project = Project(
            root=pathlib.Path(), cards={}, chains={}, registry=Registry(), problems=[]
        )
        self.start()

    def start(self) -> None:
        """The stage is one of a worker that has just started."""
        settings = Settings(model=MODEL)
        clients = Clients(settings, self.env.gates)
        clients.providers.get(resolve("", settings)).model = self.model
        self.do = work_of(SPEC, self.project, settings, clients)

    def write(self, text: str) -> str:
        """The card is this from here on; its label."""
        card = self.project.cards["bard"] = parse_card(pathlib.Path("agents/bard.md"), text)
        return card.label

    async def step(self, replay: int = 0) -> Answer:
        """The step is taken up, for the first time or again, and gets to its last answer."""
        event = first_event("tale", {"idea": "a snail"})
        calls = Calls(self.env.journal, STEP, messages(self.store, "idea")[0], replay=replay)
        try:
            return await self.do(StepWork(event, calls, self.env, "teller"))
        finally:
            await calls.recorded()


async def begun(open_store: Opener) -> House:
    """A house whose store runs, with an event on the stage's topic."""
    house = House(open_store)
    house.store.start(asyncio.get_running_loop())
    house.store.append(IDEA, 0, b"run", b"event")
    await house.store.flush()
    return house


def test_a_step_with_recorded_answers_goes_on_with_the_card_that_it_began_with(
    open_store: Opener,
) -> None:
    async def main() -> None:
        house = await begun(open_store)
        old = house.write("Be kind.\n## Task: write\nWrite.")
        first = await house.step()
        new = house.write("Be brief.\n## Task: write\nWrite.")
        again = await house.step()
        assert (again.values, again.card, house.model.asked) == (first.values, old, 1)
        (said,) = house.said
        assert (said.began, said.now) == (old, new)
        replayed = await house.step(replay=1)
        assert (replayed.values, replayed.card) == (["Be brief."], new)

    asyncio.run(main())


def test_a_card_that_cannot_be_used_any_more_is_said_and_the_step_goes_on_with_the_new_one(
    open_store: Opener,
) -> None:
    async def main() -> None:
        house = await begun(open_store)
        house.write("---\ntools: [look]\n---\nBe kind.\n## Task: write\nWrite.")
        house.project.registry.add_tool("look", lambda key: key)
        await house.step()
        del house.project.registry.tools["look"]
        new = house.write("Be brief.\n## Task: write\nWrite.")
        house.start()
        assert (await house.step()).card == new
        assert "cannot be used any more ('look')" in str(house.said[0])

    asyncio.run(main())


def test_a_step_whose_sdk_cannot_be_imported_is_tried_again_and_then_it_is_imported(
    open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        house = await begun(open_store)
        house.write("Be kind.\n## Task: write\nWrite.")
        with monkeypatch.context() as broken:
            broken.setitem(sys.modules, "penstock.worker.runner", None)
            with pytest.raises(Unavailable, match="the OpenAI Agents SDK cannot be imported"):
                await house.step()
        assert (await house.step()).values == ["Be kind."]

    asyncio.run(main())
