"""The offline model, asked directly and through the SDK's runner."""

import asyncio
import json
from typing import Any

import pytest
from agents import (
    Agent,
    AgentOutputSchema,
    AgentOutputSchemaBase,
    ModelResponse,
    ModelSettings,
    ModelTracing,
    RunConfig,
    Runner,
)
from agents.items import ItemHelpers, TResponseInputItem
from pydantic import BaseModel, Field

from penstock.models.offline import stories
from penstock.models.offline.model import LABEL, OfflineModel

PREMISE = {"premise": "Tim the Flying Dog"}


class Scores(BaseModel):
    plot: int = Field(ge=1, le=10)
    voice: int = Field(ge=1, le=10)


class Critique(BaseModel):
    verdict: str
    scores: Scores
    critique: str


def ask(
    model: OfflineModel,
    text: str | list[TResponseInputItem] = "Tim the Flying Dog",
    *,
    instructions: str | None = "Write a story.",
    schema: AgentOutputSchemaBase | None = None,
) -> ModelResponse:
    return asyncio.run(
        model.get_response(
            instructions,
            text,
            ModelSettings(),
            [],
            schema,
            [],
            ModelTracing.DISABLED,
            previous_response_id=None,
            conversation_id=None,
            prompt=None,
        )
    )


def text_of(response: ModelResponse) -> str:
    (message,) = response.output
    return ItemHelpers.extract_last_content(message)


def test_each_kind_gets_the_text_of_the_storyteller() -> None:
    parts: dict[str, Any] = dict(PREMISE)
    for kind in stories.KINDS:
        said = text_of(ask(OfflineModel(seed="a", writes=kind, parts=parts)))
        assert said == stories.tell(kind, parts, "a")
        assert "offline" not in said.lower() and LABEL not in said
        parts[kind] = said


def test_any_other_card_gets_a_reply_about_its_input() -> None:
    model = OfflineModel(seed="a", writes="digest", parts={})
    assert '"Ships sail at noon."' in text_of(ask(model, "Ships sail at noon. Then they return."))


@pytest.mark.parametrize(
    ("last", "quoted"),
    [
        ("White breath on the pane. Then sun.", "White breath on the pane."),
        ({"words": 28, "lines": 3}, "words: 28, lines: 3"),
        ({"verdict": "keep", "summary": "It is short. It is good."}, "It is short."),
        (["frost", "sun"], "frost, sun"),
    ],
)
def test_a_reply_quotes_what_the_last_part_says_and_no_tag(last: object, quoted: str) -> None:
    parts = {"subject": "the first frost", "last": last}
    prompt = f"<subject>the first frost</subject>\n\n<last>{json.dumps(last)}</last>"
    said = text_of(ask(OfflineModel(seed="a", writes="verdict", parts=parts), prompt))
    assert f'"{quoted}"' in said.splitlines()[0]
    assert "<" not in said and "the first frost" not in said
    assert said == text_of(ask(OfflineModel(seed="a", writes="verdict", parts=parts), prompt))


def test_a_reply_to_a_reply_still_quotes_what_the_run_began_with() -> None:
    parts: dict[str, object] = {"subject": "the first frost"}
    for name in ("haiku", "verdict"):
        parts[name] = text_of(ask(OfflineModel(seed="a", writes=name, parts=parts)))
        assert "the first frost" in str(parts[name]).splitlines()[0]


def test_a_pipeline_with_other_part_names_still_gets_a_story_about_its_input() -> None:
    model = OfflineModel(seed="a", writes="story", parts={"idea": "Juno the snail"})
    assert "Juno" in text_of(ask(model, "<idea>Juno the snail</idea>"))


def test_the_last_item_with_text_is_what_was_asked() -> None:
    items: list[TResponseInputItem] = [
        {"role": "user", "content": "The first thing."},
        {"role": "user", "content": [{"type": "input_text", "text": "The second thing."}]},
        {"role": "user", "content": ""},
    ]
    model = OfflineModel(seed="a", writes="digest", parts={})
    assert '"The second thing."' in text_of(ask(model, items))


def test_the_same_call_has_the_same_answer_ids_and_usage() -> None:
    one = ask(OfflineModel(seed="a", writes="plot", parts=PREMISE))
    two = ask(OfflineModel(seed="a", writes="plot", parts=PREMISE))
    other = ask(OfflineModel(seed="b", writes="plot", parts=PREMISE))
    assert one == two
    assert one.response_id != other.response_id and text_of(one) != text_of(other)


def test_usage_is_one_request_and_a_token_for_four_characters() -> None:
    response = ask(OfflineModel(seed="a", writes="plot", parts=PREMISE), "12345678")
    usage = response.usage
    assert usage.requests == 1
    assert usage.output_tokens == len(text_of(response)) // 4 + 1
    assert usage.input_tokens == len("Write a story.") // 4 + 1 + 3
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


def test_an_output_schema_gets_valid_json_with_the_critique_in_it() -> None:
    parts = {**PREMISE, "story": stories.tell("story", PREMISE, "a")}
    schema = AgentOutputSchema(Critique)
    response = ask(OfflineModel(seed="a", writes="critique", parts=parts), schema=schema)
    said = schema.validate_json(text_of(response))
    assert said.critique == stories.tell("critique", parts, "a")


def test_a_plain_text_schema_gets_text() -> None:
    model = OfflineModel(seed="a", writes="plot", parts=PREMISE)
    assert text_of(ask(model, schema=AgentOutputSchema(str))).startswith("Title: ")


def test_json_is_written_with_its_own_characters() -> None:
    model = OfflineModel(seed="a", writes="digest", parts={})
    schema = AgentOutputSchema(dict[str, str], strict_json_schema=False)
    assert json.loads(text_of(ask(model, "空飛ぶ犬", schema=schema))) == {}
    said = text_of(ask(model, "空飛ぶ犬", schema=AgentOutputSchema(list[str])))
    assert "空飛ぶ犬" in said and json.loads(said)


def test_the_runner_of_the_sdk_accepts_its_answers() -> None:
    model = OfflineModel(seed="a", writes="critique", parts=PREMISE)
    agent = Agent(name="critic", instructions="Criticise.", model=model, output_type=Critique)
    run = Runner.run(agent, "a story", run_config=RunConfig(tracing_disabled=True))
    result = asyncio.run(run)
    assert isinstance(result.final_output, Critique)
    assert 1 <= result.final_output.scores.plot <= 10
    assert result.context_wrapper.usage.requests == 1


def test_streaming_is_refused_in_words() -> None:
    model = OfflineModel(seed="a", writes="plot", parts=PREMISE)
    with pytest.raises(NotImplementedError, match=r"Runner\.run,"):
        model.stream_response(
            None,
            "",
            ModelSettings(),
            [],
            None,
            [],
            ModelTracing.DISABLED,
            previous_response_id=None,
            conversation_id=None,
            prompt=None,
        )
