"""A model behind the journal: what makes another request, and what is asked anew."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from agents import Model, ModelResponse, ModelSettings, ModelTracing, Tool, Usage, function_tool
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

from penstock.broker.embedded.journal import EmbeddedJournal
from penstock.conditions import UP
from penstock.errors import ModelFailed
from penstock.journal import Calls
from penstock.models.gate import Gates
from penstock.models.journalled import JournalledModel
from penstock.models.names import Target
from penstock.models.providers import OBJECT, PLAIN, SCHEMA, Provider, Providers
from penstock.models.streams import Limit, Limits
from penstock.project.cards import read_card
from penstock.signals import SettingRefused, Signals
from penstock.under_way import UnderWay, step_under_way
from penstock.worker.runner import CardOutput
from tests.servers import ScriptedServer
from tests.unit.conftest import Opener, messages, open_store
from tests.unit.stores import IDEA, STEP

__all__ = ["open_store"]


class Counting(Model):
    """A model of the SDK's that answers with how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        #: What it was asked last: the input, and the schema where it was given one.
        self.input: Any = None
        self.schema: Any = None

    async def get_response(self, *args: Any, **options: Any) -> ModelResponse:
        self.asked += 1
        _, self.input, _, _, self.schema, *_ = args
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
        self.model: Any = Counting()
        target = Target("server", "m", "http://127.0.0.1:1/v1", "key")
        self.provider = Provider(target, Gates(Signals()))
        self.limits = Limits(*[Limit(10, "the test")] * 3)

    async def ask(
        self,
        tools: Sequence[Tool] = (),
        anew: Sequence[str] = (),
        replay: int = 0,
        said: dict[str, Any] | None = None,
        *,
        output: CardOutput | None = None,
        shows_form: bool = False,
    ) -> tuple[str, str]:
        """The answer, and the name of the call."""
        calls = Calls(self.journal, STEP, self.message, anew, replay)
        model = JournalledModel(
            self.model, self.provider, calls, self.limits, "What is the weather?", said
        )
        model.shows_form = shows_form
        response = await model.get_response(
            "Answer.",
            "<city>Rome</city>\n\nWhat is the weather?",
            ModelSettings(max_tokens=50, include_usage=True),
            list(tools),
            output,
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


def test_what_a_card_says_beyond_the_old_keys_is_part_of_the_request_and_else_it_is_what_it_was(
    work,
):
    """Answers that were recorded before there were other keys are recalled."""

    async def body(desk: Desk) -> None:
        asked = "<city>Rome</city>\n\nWhat is the weather?"
        old: list[Any] = ["server/m", "Answer.", asked, None, 50, [], None]
        digest = hashlib.blake2b(msgspec.json.encode(old), digest_size=16).hexdigest()
        assert await desk.ask() == ("answer 1", f"{digest}-0")
        assert (await desk.ask(said={"top_p": 0.5}))[0] == "answer 2"
        assert (await desk.ask(said={"top_p": 0.9}))[0] == "answer 3"
        assert (await desk.ask())[0] == "answer 1"

    work(body)


def test_an_answer_that_was_judged_unusable_is_asked_for_anew_once_a_replay(work):
    async def body(desk: Desk) -> None:
        answer, name = await desk.ask()
        assert answer == "answer 1"
        assert (await desk.ask(replay=1))[0] == "answer 1", "nothing was wrong with it"
        for replay, expected in ((1, "answer 2"), (1, "answer 2"), (2, "answer 3")):
            assert await desk.ask(anew=[name], replay=replay) == (expected, name)

    work(body)


# -- how a server is asked that does not stream as others do


class Counter(Desk):
    """A step that asks the scripted server, each time something else, and what was heard of it."""

    def __init__(self, desk: Desk, server: ScriptedServer) -> None:
        super().__init__(desk.journal, desk.message)
        signals = Signals()
        self.refused: list[str] = []
        signals.on(SettingRefused, lambda said: self.refused.append(said.setting))
        self.providers = Providers(gates=Gates(signals))
        self.provider = self.providers.get(Target("server", "m", server.base_url, "key"))
        assert self.provider.model is not None
        self.model = self.provider.model

    async def __aenter__(self) -> "Counter":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.providers.close()

    async def asked(self, server: ScriptedServer) -> list[tuple[Any, Any]]:
        """How the server was asked to stream, call by call."""
        calls = await asyncio.to_thread(server.calls)
        return [
            (one["request"].get("stream"), one["request"].get("stream_options")) for one in calls
        ]


STREAMED = (True, {"include_usage": True})


@pytest.mark.parametrize(
    ("status", "said", "refused", "then"),
    [
        (400, "'stream_options' is not supported", "stream_options", (True, None)),
        (
            422,
            "body.stream_options: Extra inputs are not permitted",
            "stream_options",
            (True, None),
        ),
        (400, "this server cannot stream", "stream", (None, None)),
        (400, "Streaming is not supported", "stream", (None, None)),
        (400, "verify your organization to stream this model", "stream", (None, None)),
    ],
)
def test_a_server_that_refuses_to_stream_is_asked_without_and_that_is_remembered(
    work: Any, scripted: ScriptedServer, status: int, said: str, refused: str, then: Any
) -> None:
    async def body(desk: Desk) -> None:
        async with Counter(desk, scripted) as counter:
            scripted.script(
                [{"fault": "status", "status": status, "body": {"error": {"message": said}}}]
            )
            await counter.ask()
            await counter.ask([function_tool(before)])
            assert await counter.asked(scripted) == [STREAMED, then, then]
            assert counter.refused == [refused]

    work(body)


def test_many_calls_that_find_out_at_once_that_a_server_cannot_stream_are_all_answered(
    work: Any, scripted: ScriptedServer
) -> None:
    async def body(desk: Desk) -> None:
        async with Counter(desk, scripted) as counter:
            error = {"error": {"message": "stream: not here"}}
            scripted.script([{"fault": "status", "status": 400, "body": error, "times": 3}])
            tools = [function_tool(before, name_override=f"t{n}") for n in range(3)]
            await asyncio.gather(*(counter.ask([tool]) for tool in tools))
            asked = await counter.asked(scripted)
            assert asked.count(STREAMED) == asked.count((None, None)) == 3
            assert counter.refused == ["stream"]

    work(body)


def test_one_body_to_a_request_for_a_stream_is_an_answer_and_no_property_of_the_server(
    work: Any, scripted: ScriptedServer
) -> None:
    async def body(desk: Desk) -> None:
        async with Counter(desk, scripted) as counter:
            scripted.script([{"fault": "whole"}])
            assert "Scripted answer" in (await counter.ask())[0]
            await counter.ask([function_tool(before)])
            assert await counter.asked(scripted) == [STREAMED, STREAMED]

    work(body)


@pytest.mark.parametrize(
    ("after", "limits", "said"),
    [
        (0, (9, 0.2, 9), "gave no token within 0.2 s: first"),
        (2, (9, 9, 0.2), "fell silent for 0.2 s after 2 tokens: token"),
        (2, (0.2, 9, 9), "did not answer within 0.2 s: total"),
    ],
)
def test_a_server_that_takes_too_long_is_no_outage(
    work: Any, scripted: ScriptedServer, after: int, limits: tuple[float, ...], said: str
) -> None:
    async def body(desk: Desk) -> None:
        async with Counter(desk, scripted) as counter:
            counter.limits = Limits(*map(Limit, limits, ("total", "first", "token")))
            for run in ("one", "two", "three"):
                step_under_way.set(UnderWay(run, "bot"))
                scripted.script([{"fault": "silent", "after": after}])
                with pytest.raises(ModelFailed, match=f"{said} is the limit") as caught:
                    await counter.ask()
                assert caught.value.counts and not caught.value.gated
            assert {one.state for one in counter.provider.gates.conditions} == {UP}
            assert "Scripted answer" in (await counter.ask())[0]


CARD = """---
output:
  type: object
  required: [mark, why]
  properties:
    why: {type: string, description: What speaks for it}
    sure: {enum: [false, true]}
    where: {type: array, items: {$ref: "#/$defs/Place"}}
    mark: {enum: [good, bad]}
    of: {type: object, properties: {points: {type: integer, minimum: 3, maximum: 3}}}
  $defs: {Place: {type: object, properties: {name: {type: string}}}}
---
Judge.
"""
EXAMPLE = {
    "why": "What speaks for it",
    "sure": False,
    "where": [{"name": "..."}],
    "mark": "good | bad",
    "of": {"points": 3},
}


def test_a_schema_is_shown_once_to_the_server_that_takes_it_and_else_as_an_example(work, tmp_path):
    file = tmp_path / "judge.md"
    file.write_text(CARD)
    output = CardOutput(read_card(file))

    async def body(desk: Desk) -> None:
        asked = "<city>Rome</city>\n\nWhat is the weather?"
        await desk.ask(output=output)
        assert (desk.model.input, desk.model.schema) == (asked, output)
        for number, way in enumerate((OBJECT, PLAIN), 1):
            desk.provider.json_way = way
            # Anew, because the request is the same whichever way it goes.
            await desk.ask(anew=[(await desk.ask(output=output))[1]], replay=number, output=output)
            ((message),) = desk.model.input
            given, example, task = message["content"].split("\n\n")
            assert (given, task) == ("<city>Rome</city>", "What is the weather?")
            found = json.loads(example.partition("\n")[2])
            assert found == EXAMPLE and list(found) == list(EXAMPLE), "in the schema's order"
            assert desk.model.schema is None
        desk.provider.json_way = SCHEMA
        await desk.ask(
            replay=3, anew=[(await desk.ask(output=output))[1]], output=output, shows_form=True
        )
        assert "What speaks for it" in str(desk.model.input) and desk.model.schema is output

    work(body)
