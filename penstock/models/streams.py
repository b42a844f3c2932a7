"""Streams: an answer while it comes, token by token, and the whole of it.

All that is above asks for whole answers. They are streamed all the same: only so is a server that
is slow another one than a server that is silent.
"""

import asyncio
import contextlib
import contextvars
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import openai
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from penstock.errors import ModelError, ModelFailed, ModelUnavailable
from penstock.under_way import step_under_way

#: Seconds that a stream has to end after its last event, so that its connection is used again.
END_S = 0.2
#: What the parts of a message that come in pieces say once, or again and again: no pieces.
NAMES = ("role", "type", "id", "index", "name")


class Limit(NamedTuple):
    """Seconds, and the key or setting that says so."""

    seconds: float
    where: str


class Limits(NamedTuple):
    """How long an answer may take, its first token, and each one after another."""

    total: Limit
    first_token: Limit
    token: Limit


class Answering:
    """One call while its answer comes: how long that may take, how much there is, how it ended.
    What is not `streamed` has no tokens before its end, and only the limit of the whole."""

    def __init__(self, label: str, limits: Limits, streamed: bool = True) -> None:
        self.label = label
        self.streamed = streamed
        self.tokens = 0
        #: Why the answer is not whole, in our words; '' where it is.
        self.cut = ""
        #: Whether there is an answer, which may still be one that cannot be read.
        self.answered = False
        #: Whether the server has the request.
        self.taken = False
        self._step = step_under_way.get()
        self._limits = limits
        self._limit = limits.total
        self._ends_at = 0.0
        self._clock = asyncio.timeout(None)

    @contextlib.asynccontextmanager
    async def limited(self) -> AsyncIterator[None]:
        """Inside, the call is made. Raises `ModelFailed` that names the limit; where the server had
        not taken the call by then, `ModelUnavailable`."""
        self._ends_at = asyncio.get_running_loop().time() + self._limits.total.seconds
        token = answering.set(self)
        try:
            async with self._clock:
                self._wait(self._limits.first_token if self.streamed else self._limits.total)
                yield
        except TimeoutError as exc:
            if not self._clock.expired():
                raise
            raise self._too_slow() from exc
        finally:
            answering.reset(token)

    def token(self) -> None:
        """There is more of the answer."""
        self.tokens += 1
        if self._step is not None:
            self._step.token(self.tokens)
        self._wait(self._limits.token)

    def _wait(self, limit: Limit) -> None:
        """Whatever comes first ends the call: `limit` from now on, or that of the whole."""
        ends_at = asyncio.get_running_loop().time() + limit.seconds
        self._limit = limit if ends_at < self._ends_at else self._limits.total
        self._clock.reschedule(min(ends_at, self._ends_at))

    def _too_slow(self) -> ModelError:
        seconds, where = self._limit
        if not self.taken:
            what = f"did not take the call within {seconds:g} s"
            return ModelUnavailable(f"{self.label} {what}: {where} is the limit")
        if self._limit is self._limits.total:
            what = f"did not answer within {seconds:g} s"
        elif self.tokens:
            what = f"fell silent for {seconds:g} s after {self.tokens} tokens"
        else:
            what = f"gave no token within {seconds:g} s"
        error = ModelFailed(f"{self.label} {what}: {where} is the limit")
        error.timed_out = True
        return error


#: The call that is made, where somebody looks on.
answering: contextvars.ContextVar[Answering | None] = contextvars.ContextVar(
    "answering", default=None
)


async def completion(response: Any, call: Answering) -> ChatCompletion:
    """Return the completion that the server streams in `response`, an HTTP response that is not
    read yet, or gives there as one body. Raises `openai.APIError` for an error that it states in
    the stream, and `ModelFailed` where the stream ends before the answer does."""
    whole: dict[str, Any] = {}
    choice: dict[str, Any] = {"index": 0, "finish_reason": None}
    message: dict[str, Any] = {}
    content: list[Any] = []
    ended = False
    async with contextlib.aclosing(_chunks(response)) as chunks:
        async for chunk in chunks:
            if chunk is None:
                ended = True
                await _to_its_end(chunks)
                break
            is_error = "error" in (chunk.get("object"), chunk.get("type"))
            if error := chunk.get("error") or (is_error and chunk):
                raise _stated(error, response.request)
            named = {k: v for k, v in chunk.items() if k != "choices" and v is not None}
            whole |= named
            for piece in chunk.get("choices") or ():
                if piece.get("index"):
                    continue  # nobody asked for another one
                if piece.get("message") and not call.tokens:
                    whole, ended = dict(chunk), True  # one body, or one event
                    continue
                delta = dict(piece.get("delta") or {})
                if any(value for key, value in delta.items() if key not in NAMES):
                    call.token()
                if said := delta.pop("content", None):
                    content += said if isinstance(said, list) else [said]
                put_together(message, delta)
                put_together(choice, {k: piece.get(k) for k in ("finish_reason", "logprobs")})
    if "choices" in whole:
        return ChatCompletion.construct(**whole)
    if not (ended or choice["finish_reason"]):
        raise _no_answer(call)
    for tool in message.get("tool_calls") or ():
        tool.setdefault("type", "function")
    message["content"] = content or None
    choices = [{**choice, "message": message}] if call.tokens or choice["finish_reason"] else []
    # Some servers count tokens for whole answers only. Those that came are known all the same.
    counted = {"prompt_tokens": 0, "completion_tokens": call.tokens, "total_tokens": call.tokens}
    whole = {"usage": counted, **whole, "object": "chat.completion", "choices": choices}
    return ChatCompletion.construct(**whole)


def put_together(whole: dict[str, Any], piece: Mapping[str, Any]) -> None:
    """Add `piece` to `whole`: texts and lists go on, and of names the first counts."""
    for key, value in piece.items():
        old = whole.get(key)
        if value is None or (old and key in NAMES):
            continue
        if key == "tool_calls":
            _put_tools_together(whole.setdefault(key, []), value)
        elif isinstance(old, dict) and isinstance(value, Mapping):
            put_together(old, value)
        elif isinstance(old, (str, list)) and isinstance(value, type(old)):
            whole[key] = old + value  # type: ignore[operator]  # two of one type
        else:
            whole[key] = value


def _put_tools_together(tools: list[dict[str, Any]], pieces: Sequence[dict[str, Any]]) -> None:
    """Each piece goes on with the last call of its index. Some servers give all calls one index:
    another id is another call."""
    for piece in pieces:
        for tool in reversed(tools):
            is_other = tool.get("id") and piece.get("id") and tool["id"] != piece["id"]
            if tool.get("index") == piece.get("index") and not is_other:
                put_together(tool, piece)
                break
        else:
            tools.append(dict(piece))


async def responded(stream: Any, call: Answering) -> Response:
    """Return the response that the events of `stream` end with. Raises as `completion` does."""
    async for event in stream:
        if event.type in ("response.completed", "response.incomplete"):
            return cast(Response, event.response)
        if event.type == "response.failed":
            raise _stated(event.response.error.to_dict() if event.response.error else {}, None)
        if event.type == "error":
            raise _stated(event.to_dict() | {"type": None}, None)
        if event.type.endswith(".delta"):
            call.token()
    raise _no_answer(call)


def _no_answer(call: Answering) -> ModelFailed:
    if not call.tokens:
        return ModelFailed(f"{call.label} answered with something that is not a completion")
    return ModelFailed(f"{call.label} ended its answer in the middle, after {call.tokens} tokens")


def _stated(error: Any, request: Any) -> openai.APIError:
    """What a server states after it has begun to answer with 200."""
    body = error if isinstance(error, Mapping) else {"message": str(error)}
    return openai.APIError(str(body.get("message", body)), request, body=body)


async def _chunks(response: Any) -> AsyncGenerator[dict[str, Any] | None]:
    """The events of the stream, None for the mark of its end; or the body, where it is no stream.
    Comments, which keep the connection, are no events."""
    data, body, is_stream = b"", [], False
    async with contextlib.aclosing(_lines(response)) as lines:
        async for line in lines:
            field, _, value = line.rstrip(b"\r").partition(b":")
            if field == b"data":
                is_stream = True
                if value.strip() == b"[DONE]":
                    if data:
                        _read(data)  # an event that never became whole
                    yield None
                    continue
                # One event may stand on several lines, and several with no line between them.
                data += value.strip()
                try:
                    event = _read(data)
                except ValueError:
                    continue
                data = b""
                yield event
            elif field not in (b"", b"event", b"id", b"retry"):
                body.append(line)
    if data or not is_stream:
        yield _read(data or b"\n".join(body))


def _read(data: bytes) -> Any:
    # What is no UTF-8 is replaced: the answer that it stands in is paid for.
    return json.loads(data.decode("utf-8", "replace"))


async def _lines(response: Any) -> AsyncGenerator[bytes]:
    rest = b""
    async with contextlib.aclosing(response.aiter_bytes()) as pieces:
        try:
            async for piece in pieces:
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    yield line
        except Exception as exc:
            # Of whichever HTTP client it is that the openai client uses.
            raise openai.APIConnectionError(request=response.request) from exc
    yield rest


async def _to_its_end(chunks: AsyncIterator[Any]) -> None:
    """The rest of the body was read: its connection can be used again."""
    with contextlib.suppress(TimeoutError, ValueError, openai.APIConnectionError):
        async with asyncio.timeout(END_S):
            async for _ in chunks:
                pass
