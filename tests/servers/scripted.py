"""An OpenAI-compatible server that answers the same every time, counts calls, and fails on demand.

Run as `python tests/servers/scripted.py --port 0 --log FILE`; prints `{"port": N}` when it listens.

    POST /v1/chat/completions   an answer with the request's hash; JSON when that was asked for; as
                                events, word by word, to a request with `stream`
    POST /v1/embeddings         a vector of each input's words; meets `status`, `timeout` and `html`
    POST /script                a list of faults for requests to come, see `Fault`
    GET  /calls                 the last calls that were asked, each with its request
    POST /release               answer the calls that wait, and forget the faults
    POST /reset                 forget the faults and the calls, and empty the log

Each request appends a line to FILE, `{"t", "phase": "asked", "n", "key", "trace", "fault"}`, in one
write to a descriptor in append mode, so that the line is there whatever is killed afterwards. A
request whose answer a client can use appends a second, `"phase": "answered"`, just before the first
byte of the response is sent. So two "answered" lines with one key are a call that was paid for
twice, and a client that left in time, or a fault that withholds the answer, has none. The trace is
the header `x-trace-id`, or else the first UUID in the messages.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import hashlib
import json
import math
import os
import random
import re
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from aiohttp import web

#: Calls that `GET /calls` remembers with their whole request; the log has them all.
REMEMBERED_CALLS = 1000

#: Largest request body in bytes. aiohttp's own limit, 1 MB, is below what a model takes.
LARGEST_REQUEST_BYTES = 64 * 1024 * 1024

#: How deep a generated instance of a recursive schema goes.
DEEPEST_INSTANCE = 8

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)

FAULTS = {
    "none": "an ordinary answer, to hold a place in the order",
    "status": "an error with `status`, and `headers` and `body` (text or JSON) when given",
    "timeout": "nothing until the client leaves; with `seconds`, or when they are released, the"
    " ordinary answer",
    "cut": "the connection closed after half of the body",
    "html": "200 with a page, as from a proxy",
    "truncated-json": "200 with half of the JSON, and a Content-Length that agrees",
    "no-usage": "an answer without `usage`",
    "empty-choices": "200 without any choice",
    "bad-json-output": "an answer whose content, `content` when given, fits no schema",
    "answer": "an answer with `content`, with `reasoning` where that is given, and `finish_reason`",
    "whole": "the ordinary answer as one body, also to a request with `stream`",
    "silent": "`after` tokens of a stream, then comments only, until the client leaves; with"
    " `seconds`, or when they are released, the rest",
    "stated": "`after` tokens of a stream, then the error `body`",
    "unended": "`after` tokens of a stream, then its end",
}

#: Faults whose answer a client can use, and so has to pay for.
PAID_FAULTS = {"none", "timeout", "no-usage", "bad-json-output", "answer", "whole"}

#: Seconds between the comments of a stream that is silent.
COMMENT_S = 0.05


class BadScript(ValueError):
    """A fault that cannot be played, with the key and the value that are wrong."""


@dataclasses.dataclass
class Fault:
    """What happens to the next `times` requests (with `match`: whose last user message has it; with
    `instructions`: whose system message or last user message has that)."""

    fault: str
    match: str | None = None
    instructions: str | None = None
    times: int = 1
    status: int = 500
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: Any = None
    seconds: float | None = None
    content: str = "This is not the JSON that was asked for."
    reasoning: str | None = None
    finish_reason: str = "stop"
    after: int = 0

    @classmethod
    def read(cls, entry: Any) -> Fault:
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(entry, dict):
            raise BadScript(f"a fault is an object, not {entry!r}")
        if unknown := sorted(entry.keys() - known):
            raise BadScript(f"unknown key {unknown[0]!r} in {entry!r}; known: {sorted(known)}")
        if entry.get("fault") not in FAULTS:
            raise BadScript(f"unknown fault {entry.get('fault')!r}; known: {list(FAULTS)}")
        return cls(**entry)


@dataclasses.dataclass
class Call:
    n: int
    t: float
    key: str
    trace: str | None
    fault: str | None
    headers: dict[str, str]
    request: dict[str, Any]
    answered: bool = False


class ScriptedModel:
    """The state behind the routes. One event loop, so nothing here is locked."""

    def __init__(self, log_path: str, delay_s: float, jitter: float) -> None:
        self.delay_s = delay_s
        self.jitter = jitter
        self.script: list[Fault] = []
        self.calls: deque[Call] = deque(maxlen=REMEMBERED_CALLS)
        self.log = os.open(log_path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        # A server that was killed and started again on the same log goes on counting.
        with open(log_path, encoding="utf-8") as lines:
            self.asked = sum('"phase": "asked"' in line for line in lines)
        self.released = asyncio.Event()
        #: Counts resets, so that a call that was asked before one leaves no line after it.
        self.epoch = 0

    def application(self) -> web.Application:
        application = web.Application(client_max_size=LARGEST_REQUEST_BYTES)
        application.router.add_post("/v1/chat/completions", self.complete)
        application.router.add_post("/v1/embeddings", self.embed)
        application.router.add_post("/script", self.add_faults)
        application.router.add_get("/calls", self.list_calls)
        application.router.add_post("/release", self.release)
        application.router.add_post("/reset", self.reset)
        return application

    async def add_faults(self, request: web.Request) -> web.Response:
        entries = await request.json()
        if not isinstance(entries, list):
            return error_response(400, f"a script is a list of faults, not {entries!r}")
        try:
            self.script += [Fault.read(entry) for entry in entries]
        except BadScript as bad:
            return error_response(400, str(bad))
        return web.json_response({"waiting": len(self.script)})

    async def list_calls(self, request: web.Request) -> web.Response:
        return web.json_response([dataclasses.asdict(call) for call in self.calls])

    async def release(self, request: web.Request) -> web.Response:
        self.script.clear()
        self.released.set()
        self.released = asyncio.Event()
        return web.json_response({})

    async def reset(self, request: web.Request) -> web.Response:
        self.script.clear()
        self.calls.clear()
        self.asked = 0
        self.epoch += 1
        os.ftruncate(self.log, 0)
        return web.json_response({})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        try:
            asked = await request.json()
            messages = asked["messages"]
            if not isinstance(messages, list) or not messages:
                return error_response(400, "needs a list of messages")
        except (ValueError, KeyError, TypeError):
            return error_response(400, "needs a JSON object with messages")
        fault = self.next_fault(last_user_text(messages), first_system_text(messages))
        call = self.note_asked(request, asked, fault)
        epoch = self.epoch
        if fault.fault == "status":
            return status_response(fault)
        if fault.fault == "timeout":
            # Cancelled when the client leaves (handler_cancellation).
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(fault.seconds):
                    await self.released.wait()
        else:
            chance = random.Random(f"{call.key}{call.n}")
            await asyncio.sleep(self.delay_s * chance.uniform(1 - self.jitter, 1 + self.jitter))
        if fault.fault == "html":
            return web.Response(text="<html>Bad gateway</html>", content_type="text/html")
        try:
            made = completion(asked, call, fault)
        except (BadScript, KeyError, TypeError, AttributeError) as bad:
            return error_response(400, f"no instance can be made of the schema: {bad!r}")
        body, kind = json.dumps(made).encode(), "application/json"
        if fault.fault == "truncated-json":
            return web.Response(body=body[: len(body) // 2], content_type=kind)
        if asked.get("stream") and fault.fault != "whole":
            events = list(events_of(made, asked))
            if fault.fault in ("silent", "stated", "unended"):
                return await self.send_in_parts(request, events, fault)
            body, kind = b"".join(events), "text/event-stream"
        if fault.fault == "cut":
            return await send_half(request, body, kind)
        if fault.fault in PAID_FAULTS and epoch == self.epoch and is_connected(request):
            call.answered = True
            self.append("answered", call)
        return web.Response(body=body, content_type=kind)

    async def send_in_parts(
        self, request: web.Request, events: list[bytes], fault: Fault
    ) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_type = "text/event-stream"
        await response.prepare(request)
        # The first says who speaks, and is no token.
        await response.write(b"".join(events[: 1 + fault.after]))
        if fault.fault == "stated":
            await response.write(event_of(fault.body) + event_of("[DONE]"))
        if fault.fault == "silent":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(fault.seconds):
                    released = asyncio.ensure_future(self.released.wait())
                    try:
                        while not (await asyncio.wait([released], timeout=COMMENT_S))[0]:
                            await response.write(b": still here\n\n")
                    finally:
                        released.cancel()
            await response.write(b"".join(events[1 + fault.after :]))
        return response

    async def embed(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        fault = self.next_fault("\n".join(asked["input"]))
        if fault.fault == "status":
            return status_response(fault)
        if fault.fault == "timeout":
            await asyncio.sleep(math.inf if fault.seconds is None else fault.seconds)
        if fault.fault == "html":
            return web.Response(text="<html>Bad gateway</html>", content_type="text/html")
        data = [
            {"object": "embedding", "index": n, "embedding": word_vector(asked["model"], text)}
            for n, text in enumerate(asked["input"])
        ]
        # Last first: the protocol has an index, and does not promise an order.
        return web.json_response({"object": "list", "data": data[::-1], "model": asked["model"]})

    def next_fault(self, text: str, instructions: str = "") -> Fault:
        """The first of the script that applies, used up by one; else none."""
        everything = f"{instructions}\n{text}"
        for fault in self.script:
            if (fault.match or "") in text and (fault.instructions or "") in everything:
                fault.times -= 1
                if fault.times <= 0:
                    self.script.remove(fault)
                return fault
        return Fault("none")

    def note_asked(self, request: web.Request, asked: dict[str, Any], fault: Fault) -> Call:
        self.asked += 1
        named = UUID.search(json.dumps(asked["messages"]))
        call = Call(
            n=self.asked,
            t=time.time(),
            key=request_key(asked),
            trace=request.headers.get("x-trace-id") or (named[0].lower() if named else None),
            fault=None if fault.fault == "none" else fault.fault,
            headers={name.lower(): value for name, value in request.headers.items()},
            request=asked,
        )
        self.calls.append(call)
        self.append("asked", call)
        return call

    def append(self, phase: str, call: Call) -> None:
        line = {"t": time.time(), "phase": phase, "n": call.n, "key": call.key}
        line |= {"trace": call.trace, "fault": call.fault}
        os.write(self.log, json.dumps(line).encode() + b"\n")


def request_key(asked: dict[str, Any]) -> str:
    """SHA-256 of messages and model in canonical JSON: the same question has the same key."""
    question = {"messages": asked["messages"], "model": asked.get("model")}
    text = json.dumps(question, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def word_vector(model: str, text: str) -> list[float]:
    """How often each word is there, hashed to one of 64 places, others for each model."""
    vector = [0.01] * 64
    for word in text.lower().split():
        vector[hashlib.sha256(f"{model} {word}".encode()).digest()[0] % 64] += 1.0
    return vector


def last_user_text(messages: list[Any]) -> str:
    return text_of("user", messages[::-1])


def first_system_text(messages: list[Any]) -> str:
    return text_of("system", messages)


def text_of(role: str, messages: list[Any]) -> str:
    """The text of the first of `messages` with this role; nothing when there is none."""
    for message in messages:
        if isinstance(message, dict) and message.get("role") == role:
            content = message.get("content")
            return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return ""


def is_connected(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()


def completion(asked: dict[str, Any], call: Call, fault: Fault) -> dict[str, Any]:
    content = answer_text(asked, call.key)
    if fault.fault in ("bad-json-output", "answer"):
        content = fault.content
    usage = {
        "prompt_tokens": len(json.dumps(asked["messages"]).split()),
        "completion_tokens": len(content.split()),
    }
    message = {"role": "assistant", "content": content}
    if fault.reasoning is not None:
        message["reasoning_content"] = fault.reasoning
    body: dict[str, Any] = {
        "id": f"chatcmpl-{call.key[:12]}-{call.n}",
        "object": "chat.completion",
        "created": int(call.t),
        "model": asked.get("model") or "scripted",
        "choices": [{"index": 0, "message": message, "finish_reason": fault.finish_reason}],
        "usage": usage | {"total_tokens": sum(usage.values())},
    }
    if fault.fault == "no-usage":
        del body["usage"]
    if fault.fault == "empty-choices":
        body["choices"] = []
    return body


def events_of(made: dict[str, Any], asked: dict[str, Any]) -> Iterator[bytes]:
    """A completion as the events of a stream: who speaks, each word, the end, and what was used
    where that is asked for."""
    chunk = {**made, "object": "chat.completion.chunk"}
    usage = chunk.pop("usage", None)
    for choice in made["choices"]:

        def event(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
            choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
            return event_of({**chunk, "choices": choices})

        yield event({"role": "assistant", "content": ""})
        for key in ("reasoning_content", "content"):
            said = choice["message"].get(key)
            words = (
                re.findall(r"\S+\s*|\s+", said) if isinstance(said, str) else [said] * bool(said)
            )
            for word in words:
                yield event({key: word})
        yield event({}, choice["finish_reason"])
    if usage is not None and (asked.get("stream_options") or {}).get("include_usage"):
        yield event_of({**chunk, "choices": [], "usage": usage})
    yield event_of("[DONE]")


def event_of(data: Any) -> bytes:
    return b"data: %s\n\n" % (data if isinstance(data, str) else json.dumps(data)).encode()


def answer_text(asked: dict[str, Any], key: str) -> str:
    """The answer to a request, the same for the same key: a sentence, or JSON when asked for."""
    short = key[:8]
    wanted = asked.get("response_format") or {}
    if wanted.get("type") not in ("json_schema", "json_object"):
        return f"Scripted answer {short} to {len(asked['messages'])} messages."
    nested = wanted.get("json_schema") or {}
    # json_schema is OpenAI's place; the others are where servers that only know json_object look.
    schema = nested.get("schema") or wanted.get("schema") or asked.get("schema")
    return json.dumps({"answer": short} if schema is None else instance(schema, schema, short))


def instance(schema: Any, root: dict[str, Any], word: str, depth: int = 0) -> Any:
    """A value that fits `schema` and shows each property. `pattern` and `allOf` are not read.

    Raises `BadScript` for a schema that is recursive without an end.
    """
    if depth > 4 * DEEPEST_INSTANCE:
        raise BadScript("the schema is recursive and has no end")
    if not isinstance(schema, dict):
        return word
    if "$ref" in schema:
        return instance(resolved(schema, root), root, word, depth + 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            # null last, and first once it gets too deep: that is how recursive models end.
            options = sorted(
                schema[choice],
                key=lambda option: (option.get("type") == "null") != (depth > DEEPEST_INSTANCE),
            )
            return instance(options[0], root, word, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    if kind == "object":
        required = schema.get("required", [])
        return {
            name: instance(part, root, word, depth + 1)
            for name, part in schema.get("properties", {}).items()
            if name in required or depth <= DEEPEST_INSTANCE
        }
    if kind == "array":
        least = 0 if depth > DEEPEST_INSTANCE else 1
        count = min(max(least, schema.get("minItems", 0)), schema.get("maxItems", 1_000_000))
        return [instance(schema.get("items", {}), root, word, depth + 1) for _ in range(count)]
    if kind in ("integer", "number"):
        return number(schema, kind)
    if kind == "boolean":
        return True
    return None if kind == "null" else string(schema, word)


def resolved(schema: dict[str, Any], root: dict[str, Any]) -> Any:
    target: Any = root
    for step in schema["$ref"].removeprefix("#").strip("/").split("/"):
        target = target[step.replace("~1", "/").replace("~0", "~")] if step else target
    return target


def number(schema: dict[str, Any], kind: str) -> Any:
    """The lowest allowed, else 1 or the highest allowed. An open interval is wider than 0.02."""
    step = 1 if kind == "integer" else 0.01
    highest = schema.get("maximum", schema.get("exclusiveMaximum", 1 + step) - step)
    above = schema.get("exclusiveMinimum", min(1, highest) - step)
    return schema.get("minimum", above + step)


def string(schema: dict[str, Any], word: str) -> str:
    known = {
        "date-time": "2024-02-29T12:00:00Z",
        "date": "2024-02-29",
        "uuid": f"{word}-0000-4000-8000-000000000000",
    }
    text = known.get(schema.get("format", ""), word)
    text = text.ljust(schema.get("minLength", 0), ".")
    highest: int = schema.get("maxLength", len(text))
    return text[:highest]


def error_response(
    status: int, message: str, headers: dict[str, str] | None = None
) -> web.Response:
    body = {"error": {"message": message, "type": "scripted", "param": None, "code": None}}
    return web.json_response(body, status=status, headers=headers)


def status_response(fault: Fault) -> web.Response:
    if fault.body is None:
        return error_response(fault.status, f"scripted {fault.status}", fault.headers)
    if isinstance(fault.body, str):
        return web.Response(text=fault.body, status=fault.status, headers=fault.headers)
    return web.json_response(fault.body, status=fault.status, headers=fault.headers)


async def send_half(request: web.Request, body: bytes, kind: str) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_type = kind
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


async def serve(arguments: argparse.Namespace) -> None:
    model = ScriptedModel(arguments.log, arguments.delay, arguments.jitter)
    # Without cancellation a request that waits would outlive its client, and answer nobody.
    runner = web.AppRunner(model.application(), handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, arguments.host, arguments.port)
    await site.start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    if arguments.until_stdin_closes:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), os._exit, 0)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description="An OpenAI-compatible server that fails on demand."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--log", required=True, help="file that gets a line for each call")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before an answer")
    parser.add_argument(
        "--jitter", type=float, default=0.0, help="0.5: half to one and a half delays"
    )
    parser.add_argument(
        "--until-stdin-closes",
        action="store_true",
        help="end with the process that started this one",
    )
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
