"""Shapes: an answer in another one than OpenAI's is read where it can be, and is no outage."""

import json
from typing import Any

import pytest
from openai.types.responses import ResponseFunctionToolCall

from penstock.errors import ModelFailed
from tests.models.test_streams import (
    DONE,
    USAGE,
    answered,
    delta,
    event,
    failed,
    text_of,
)


def body(message: Any = None, usage: Any = USAGE, **more: Any) -> bytes:
    """An answer in one body."""
    message = {"role": "assistant", "content": "Hello."} if message is None else message
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    whole = {"id": "c", "object": "chat.completion", "model": "m", "choices": choices}
    return json.dumps(whole | {"usage": usage} | more).encode()


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 3.5, "completion_tokens": 2.0, "total_tokens": 5.5}, (3, 2)),
        ({"prompt_tokens": "3"}, (3, 0)),
        ({"prompt_tokens": None, "completion_tokens": -1}, (0, 0)),
        ({"prompt_tokens": [3], "completion_tokens": "many"}, (0, 0)),
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": 1.5}}, (30, 20)),
        ({**USAGE, "prompt_tokens_details": "none", "completion_tokens_details": 7}, (30, 20)),
        ({}, (0, 0)),
        (None, (0, 0)),
        ("many", (0, 0)),
    ],
)
def test_no_count_of_tokens_costs_an_answer(usage: Any, counted: tuple[int, int], streamed: bool):
    response, _ = answered(body(usage=usage), streamed=streamed)
    assert text_of(response) == "Hello."
    assert (response.usage.input_tokens, response.usage.output_tokens) == counted


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("arguments", "read"), [({"at": 3}, '{"at": 3}'), (None, "{}"), ('{"at": 3}', '{"at": 3}')]
)
def test_calls_of_tools_have_an_id_and_their_arguments_as_text(
    arguments: Any, read: str, streamed: bool
):
    named = {"type": "function", "function": {"name": "look", "arguments": arguments}}
    nameless = {"id": "2", "type": "function", "function": {"name": None, "arguments": None}}
    message = {"role": "assistant", "content": None, "tool_calls": [named, nameless]}
    response, _ = answered(body(message), streamed=streamed)
    (call,) = response.output
    assert isinstance(call, ResponseFunctionToolCall)
    assert (call.name, call.call_id, call.arguments) == ("look", "call_0", read)


def test_beside_a_text_a_call_that_names_no_tool_is_none():
    nameless = {"id": None, "type": "function", "function": {"name": None, "arguments": None}}
    message = {"role": "assistant", "content": "Hello.", "tool_calls": [nameless]}
    response, _ = answered(body(message))
    assert text_of(response) == "Hello." and len(response.output) == 1


def test_what_is_no_utf_8_is_replaced():
    response, _ = answered(body().replace(b"Hello.", b"caf\xe9"))
    assert text_of(response) == "caf\ufffd"


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    "message", [{"role": "assistant", "content": 42}, {"role": "assistant", "content": {"a": "b"}}]
)
def test_an_answer_that_cannot_be_read_is_the_events_own_failure_and_no_outage(
    message: Any, streamed: bool
):
    error = failed(body(message), streamed=streamed)
    assert isinstance(error, ModelFailed) and error.answered
    assert "server/m gave an answer that cannot be read (ValidationError" in error.message


@pytest.mark.parametrize("said", [b"<html>busy</html>", b"", b"null", b'{"choices": []}'])
def test_what_is_no_answer_at_all_may_be_an_outage(said: bytes):
    error = failed(said)
    assert isinstance(error, ModelFailed) and not error.answered


def test_a_stream_with_an_event_that_nobody_can_read_is_not_whole():
    error = failed(delta(content="half "), b"data: {nope\n\n", DONE)
    assert "something that is not a completion (JSONDecodeError" in error.message


def test_an_event_in_two_lines_is_one():
    whole = event({"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]})
    response, _ = answered(whole.replace(b', "delta"', b',\ndata: "delta"'), DONE)
    assert text_of(response) == "Hi"
