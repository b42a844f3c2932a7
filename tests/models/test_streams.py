"""Streams: what comes token by token is one answer, and how long each of it may take."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
from agents import (
    Model,
    ModelResponse,
    ModelSettings,
    ModelTracing,
)
from openai.types.responses import ResponseFunctionToolCall, ResponseReasoningItem

from penstock.errors import (
    ModelBusy,
    ModelError,
    ModelFailed,
    ModelLocked,
    ModelRefused,
    ModelUnavailable,
)
from penstock.models.providers import ChatModel, ResponsesModel, explain
from penstock.models.streams import Answering, Limit, Limits
from tests.unit.conftest import run_leaping

#: Seconds that the whole may take, its first token, and each other one.
LIMITS = Limits(
    Limit(100, "'timeout_s' in bot.md"),
    Limit(40, "'first_token_s' in bot.md"),
    Limit(10, "'token_timeout_s' in bot.md"),
)
USAGE = {
    "prompt_tokens": 30,
    "completion_tokens": 20,
    "total_tokens": 50,
    "prompt_tokens_details": {"cached_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
Said = list[bytes | float | Exception]


class Body(httpx2.AsyncByteStream):
    """What a server says, with its pauses in seconds."""

    def __init__(self, said: Said) -> None:
        self.said = said

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for one in self.said:
            if isinstance(one, Exception):
                raise one
            if isinstance(one, float):
                await asyncio.sleep(one)
            else:
                yield one


async def ask(
    said: Said, kind: type[Model] = ChatModel, streamed: bool = True
) -> tuple[ModelResponse, Answering]:
    """The answer that is put together of `said`, and what was seen of it while it came."""

    async def serve(request: httpx2.Request) -> httpx2.Response:
        assert json.loads(request.content).get("stream", False) is streamed
        call.taken = True
        return httpx2.Response(200, stream=Body(said), headers={"content-type": kind_of})

    kind_of = "text/event-stream" if streamed else "application/json"
    call = Answering("server/m", LIMITS, streamed)
    async with openai.AsyncOpenAI(
        base_url="http://gpu/v1",
        api_key="none",
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(serve)),
    ) as client:
        model = kind("m", client)  # type: ignore[call-arg]
        async with call.limited():
            response = await model.get_response(
                None,
                "hello",
                ModelSettings(include_usage=True),
                [],
                None,
                [],
                ModelTracing.DISABLED,
                previous_response_id=None,
                conversation_id=None,
                prompt=None,
            )
    return response, call


@pytest.fixture(scope="module", autouse=True)
def a_first_call() -> None:
    """In the first of a process the client asks in a thread what it runs on, for which a clock that
    leaps does not wait."""
    asyncio.run(ask([END, DONE]))


def answered(*said: bytes | float | Exception, **options: Any) -> tuple[ModelResponse, Answering]:
    return run_leaping(ask(list(said), **options))


def failed(*said: bytes | float | Exception, **options: Any) -> ModelError:
    """What it means that `said` is no answer."""
    try:
        answered(*said, **options)
    except Exception as exc:
        return explain(exc, "server/m", 100)
    raise AssertionError("there was an answer")


def event(data: Any) -> bytes:
    return b"data: %s\n\n" % json.dumps(data).encode()


def delta(finish_reason: str | None = None, **said: Any) -> bytes:
    choice = {"index": 0, "delta": said, "finish_reason": finish_reason}
    return event({"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]})


def text_of(response: ModelResponse) -> str:
    message: Any = response.output[-1]
    return "".join(part.text for part in message.content)


END = delta("stop")
USED = event({"choices": [], "usage": USAGE})
DONE = b"data: [DONE]\n\n"


def test_tokens_are_one_answer_with_its_usage_and_what_was_thought():
    response, call = answered(
        delta(role="assistant", content=""),
        delta(reasoning_content="a vol"),
        delta(reasoning_content="cano?"),
        delta(content="Once "),
        delta(content="upon", refusal=None),
        END,
        USED,
        DONE,
    )
    thought, _ = response.output
    assert isinstance(thought, ResponseReasoningItem) and thought.summary[0].text == "a volcano?"
    assert text_of(response) == "Once upon" and call.tokens == 4 and call.cut == ""
    used = response.usage
    assert (used.input_tokens, used.output_tokens, used.total_tokens) == (30, 20, 50)
    assert used.input_tokens_details.cached_tokens == 8
    assert used.output_tokens_details.reasoning_tokens == 5


def test_an_answer_that_the_limit_of_tokens_ends_is_cut():
    assert answered(delta(content="Once"), delta("length"), DONE)[1].cut == "length"


@pytest.mark.parametrize("again", [False, True], ids=["named once", "named with each piece"])
def test_calls_of_tools_in_pieces_are_calls_of_tools(again: bool):
    def piece(index: int, name: str, arguments: str, first: bool) -> bytes:
        names = {"id": f"call-{name}", "type": "function"} if first or again else {}
        function = {"name": name} if first or again else {}
        tool = {"index": index, **names, "function": {**function, "arguments": arguments}}
        return delta(tool_calls=[tool])

    response, _ = answered(
        piece(0, "look", '{"for":', True),
        piece(0, "look", ' "a"}', False),
        piece(1, "find", "{}", True),
        delta("tool_calls"),
        DONE,
    )
    calls = [one for one in response.output if isinstance(one, ResponseFunctionToolCall)]
    assert [(one.call_id, one.name, one.arguments) for one in calls] == [
        ("call-look", "look", '{"for": "a"}'),
        ("call-find", "find", "{}"),
    ]


def test_two_calls_of_tools_that_a_server_gives_one_index_are_two():
    function = {"arguments": "{}"}
    response, _ = answered(
        delta(tool_calls=[{"index": 0, "id": "1", "function": {"name": "look", **function}}]),
        delta(tool_calls=[{"index": 0, "id": "2", "function": {"name": "find", **function}}]),
        delta("tool_calls"),
        DONE,
    )
    assert [one.name for one in response.output if isinstance(one, ResponseFunctionToolCall)] == [
        "look",
        "find",
    ]


def test_a_refusal_in_pieces_is_a_refusal():
    response, _ = answered(delta(refusal="I "), delta(refusal="will not"), END, DONE)
    message: Any = response.output[-1]
    assert message.content[0].refusal == "I will not"


def test_content_in_lists_of_parts_is_one_text_with_one_thought_in_front():
    def thinking(text: str) -> bytes:
        return delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": text}]}])

    response, _ = answered(
        thinking("a "), thinking("volcano"), delta(content="Once "), delta(content="upon"), END
    )
    assert text_of(response) == "<think>a volcano</think>Once upon"


@pytest.mark.parametrize(
    "said",
    [
        b": KEEP\r\n\r\nevent: x\r\ndata: {%s}\r\n\r\ndata: [DONE]\r\n\r\n",
        b"data:{%s}\ndata:[DONE]\n",
        b"data: {\ndata: %s\ndata: }\n\ndata: [DONE]\n\n",
        b"data: {%s}",
    ],
    ids=["with comments and CRLF", "with no empty lines", "on several lines", "cut off at its end"],
)
def test_the_events_of_all_servers_are_read(said: bytes):
    whole = said % json.dumps(json.loads(END[6:]) | {"choices": [
        {"delta": {"content": "Once\u2028upon"}, "finish_reason": "stop"}
    ]}, ensure_ascii=False)[1:-1].encode()  # fmt: skip
    for size in (1, 7, len(whole)):
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        assert text_of(answered(*pieces)[0]) == "Once\u2028upon"


def test_one_body_to_a_request_that_was_to_be_streamed_is_read_as_it_is():
    message = {"role": "assistant", "content": [{"type": "text", "text": "Once"}]}
    body = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "length"}]}
    for said in (json.dumps(body | {"usage": USAGE}, indent=2).encode(), event(body) + DONE):
        response, call = answered(said)
        assert text_of(response) == "Once" and call.cut == "length"


# -- what is no answer


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 429, "message": "slow down"}, ModelBusy),
        ({"code": "503", "message": "no room"}, ModelUnavailable),
        ({"code": 502, "message": "Provider disconnected"}, ModelUnavailable),
        ({"type": "overloaded_error", "message": "Overloaded"}, ModelUnavailable),
        ({"code": "rate_limit_exceeded", "message": "slow down"}, ModelBusy),
        ({"code": "insufficient_quota", "message": "pay"}, ModelLocked),
        ({"type": "invalid_request_error", "message": "too long"}, ModelRefused),
        ({"type": "server_error", "code": None, "message": "odd"}, ModelFailed),
        ("something odd", ModelFailed),
    ],
)
def test_an_error_in_a_stream_means_what_its_status_says(error: Any, kind: type[ModelError]):
    for said in (
        [delta(content="Once "), event({"error": error}), DONE],
        *([[event({"object": "error", **error}), DONE]] if isinstance(error, dict) else []),
        [json.dumps({"error": error}).encode()],
    ):
        found = failed(*said)
        assert type(found) is kind
        assert error["message"] if isinstance(error, dict) else error in found.message


def test_a_stream_that_ends_before_the_answer_does_is_no_answer():
    error = failed(delta(content="Once "), delta(content="upon"))
    assert type(error) is ModelFailed
    assert error.message == "server/m ended its answer in the middle, after 2 tokens"


@pytest.mark.parametrize(("said", "tokens"), [([delta(content="Once ")], 1), ([], 0)])
def test_a_connection_that_breaks_in_an_answer_is_that_calls_own_failure(
    said: list[bytes], tokens: int
):
    error = failed(*said, httpx2.RemoteProtocolError("peer closed"))
    assert type(error) is ModelFailed
    assert error.message == f"server/m broke off after {tokens} tokens of its answer: peer closed"


@pytest.mark.parametrize(
    "said", [b"<h1>Log in</h1>", b"", b"data: {\n\n", b"[]", b'{"a": 1}', DONE]
)
def test_what_is_no_completion_is_none(said: bytes):
    assert type(failed(said)) is ModelFailed


# -- how long it may take


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ([b": wait\n\n", 39.0, b": wait\n\n", 2.0], "gave no token within 40 s: 'first_token_s'"),
        ([delta(role="assistant", content=""), 41.0], "gave no token within 40 s: 'first_token_s'"),
        (
            [39.0, delta(content="Once "), 9.0, delta(content="upon"), b": wait\n\n", 11.0],
            "fell silent for 10 s after 2 tokens: 'token_timeout_s'",
        ),
        ([delta(content="on "), 9.0] * 20, "did not answer within 100 s: 'timeout_s'"),
    ],
    ids=["comments", "a role", "silence", "the whole"],
)
def test_an_answer_that_is_too_slow_names_its_limit(said: Said, message: str):
    error = failed(*said)
    assert type(error) is ModelFailed and error.timed_out
    assert error.message == f"server/m {message} in bot.md is the limit"


def test_an_answer_may_take_as_long_as_its_tokens_arrive():
    word: Said = [delta(content="on "), 9.0]
    slow: Said = [39.0, *word * 6, END, DONE]
    assert text_of(answered(*slow)[0]) == "on " * 6


def test_what_is_not_streamed_has_the_limit_of_the_whole_only():
    message = {"role": "assistant", "content": "Once"}
    body = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    said = json.dumps(body).encode()
    assert text_of(answered(99.0, said, streamed=False)[0]) == "Once"
    error = failed(101.0, said, streamed=False)
    assert type(error) is ModelFailed and "'timeout_s'" in error.message


def test_a_call_that_the_server_has_not_taken_says_nothing_about_its_event():
    async def main() -> None:
        async with Answering("server/m", LIMITS).limited():
            await asyncio.sleep(50)

    with pytest.raises(ModelUnavailable, match="did not take the call within 40 s") as caught:
        run_leaping(main())
    assert not isinstance(caught.value, ModelFailed)


# -- OpenAI's own interface


def respond(*said: dict[str, Any]) -> list[bytes]:
    return [b"event: %s\n" % one["type"].encode() + event(one) for one in said]


def response_event(kind: str, **more: Any) -> dict[str, Any]:
    text = {"type": "output_text", "text": "Once upon", "annotations": []}
    message = {"id": "m", "type": "message", "role": "assistant", "status": "completed"}
    details: dict[str, Any] = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    details |= {"input_tokens_details": {"cached_tokens": 1}}
    details |= {"output_tokens_details": {"reasoning_tokens": 1}}
    output = [{**message, "content": [text]}]
    return {"type": kind, "response": {"id": "r", "output": output, "usage": details, **more}}


def test_a_response_in_events_is_the_one_that_they_end_with():
    words = [{"type": "response.output_text.delta", "delta": word} for word in ("Once ", "upon")]
    response, call = answered(
        *respond(*words, response_event("response.completed")), kind=ResponsesModel
    )
    assert text_of(response) == "Once upon" and call.tokens == 2 and call.cut == ""
    assert response.usage.output_tokens_details.reasoning_tokens == 1


def test_a_response_that_was_cut_off_says_why():
    cut = response_event("response.incomplete", incomplete_details={"reason": "max_output_tokens"})
    response, call = answered(*respond(cut), kind=ResponsesModel)
    assert text_of(response) == "Once upon" and call.cut == "length"


@pytest.mark.parametrize(
    "said",
    [
        response_event("response.failed", error={"code": "rate_limit_exceeded", "message": "slow"}),
        {"type": "error", "code": "rate_limit_exceeded", "message": "slow"},
    ],
    ids=["failed", "error"],
)
def test_an_error_among_the_events_of_a_response_means_what_its_code_says(said: dict[str, Any]):
    assert type(failed(*respond(said), kind=ResponsesModel)) is ModelBusy


def test_a_response_without_an_end_is_no_answer():
    words = respond({"type": "response.output_text.delta", "delta": "Once"})
    assert type(failed(*words, kind=ResponsesModel)) is ModelFailed
