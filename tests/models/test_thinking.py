"""Thinking: set apart from the answer, and told as it was thought."""

import pytest
from agents import ModelResponse
from agents.usage import Usage
from openai.types.responses import ResponseOutputMessage, ResponseOutputText
from openai.types.responses.response_reasoning_item import (
    Content,
    ResponseReasoningItem,
    Summary,
)

from penstock.models.thinking import LONGEST, set_apart, thinking_of


def response(*items: str | ResponseReasoningItem) -> ModelResponse:
    """A model's response: messages with these texts, and what it gave as thinking by itself."""
    output = [
        item
        if isinstance(item, ResponseReasoningItem)
        else ResponseOutputMessage(
            id=f"m{number}",
            content=[ResponseOutputText(annotations=[], text=item, type="output_text")],
            role="assistant",
            status="completed",
            type="message",
        )
        for number, item in enumerate(items)
    ]
    return ModelResponse(output=list(output), usage=Usage(), response_id=None)


def thought(*summaries: str, content: tuple[str, ...] = ()) -> ResponseReasoningItem:
    return ResponseReasoningItem(
        id="r",
        type="reasoning",
        summary=[Summary(text=text, type="summary_text") for text in summaries],
        content=[Content(text=text, type="reasoning_text") for text in content],
    )


def texts(made: ModelResponse) -> list[str]:
    return [
        piece.text
        for item in made.output
        if isinstance(item, ResponseOutputMessage)
        for piece in item.content
        if isinstance(piece, ResponseOutputText)
    ]


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("<think>a\nb</think>\n\nYes.", "a\nb", "Yes."),
        ("\n <THINK> a </THINK>Yes.", "a", "Yes."),
        ("<thinking>a <think>b</think></thinking>{}", "a <think>b</think>", "{}"),
        ("<think></think>Yes.", "", "Yes."),
        ("<think>it was cut off", "it was cut off", ""),
        ("Yes, <think>no</think>.", "", "Yes, <think>no</think>."),
        ("<thinker>a</thinker>", "", "<thinker>a</thinker>"),
        ("<think>a</think><think>b</think>", "a", "<think>b</think>"),
    ],
)
def test_what_stands_before_the_answer_in_marks_is_thinking(text, thinking, answer):
    made = set_apart(response(text))
    assert (thinking_of([made]), texts(made)) == (thinking, [answer])


def test_what_a_server_gives_as_reasoning_is_thinking_and_the_answer_stays_as_it_is():
    made = set_apart(response(thought("first", " "), "Yes."))
    assert (thinking_of([made]), texts(made)) == ("first", ["Yes."])
    assert thinking_of([response("Yes.")]) == ""


def test_all_that_was_thought_for_a_run_of_calls_is_reported_in_order():
    first = set_apart(response(thought("one", content=("raw",)), "<think>two</think>Look."))
    assert thinking_of([first, response(thought("three"), "Yes.")]) == "raw\n\none\n\ntwo\n\nthree"


def test_setting_apart_twice_changes_nothing():
    once = set_apart(response("<think>a</think>Yes."))
    again = set_apart(once)
    assert (thinking_of([again]), texts(again)) == ("a", ["Yes."])


def test_long_thinking_is_cut():
    made = thinking_of([response(thought("x" * (LONGEST + 1)))])
    assert len(made) == LONGEST and made.endswith("x…")
    assert len(thinking_of([response(thought("x" * LONGEST))])) == LONGEST
