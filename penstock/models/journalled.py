"""A model whose answers are recorded: asked once for each call of a step, whatever dies."""

import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import msgspec
import openai
from agents import (
    AgentOutputSchemaBase,
    Handoff,
    Model,
    ModelResponse,
    ModelSettings,
    ModelTracing,
    Tool,
    TResponseInputItem,
)
from agents.items import TResponseOutputItem, TResponseStreamEvent
from agents.usage import Usage as TokenUsage
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)
from openai.types.responses.response_prompt_param import ResponsePromptParam
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails
from pydantic import BaseModel, TypeAdapter

from penstock.errors import ModelBusy
from penstock.journal import MODEL, Calls
from penstock.models.offline.filling import example_of
from penstock.models.providers import (
    OBJECT,
    PLAIN,
    REFUSABLE,
    SCHEMA,
    STREAM,
    Provider,
    status_of,
    words_of,
)
from penstock.models.streams import Answering, Limits
from penstock.models.thinking import set_apart
from penstock.record.dead_letters import LONGEST, Exchange
from penstock.record.values import storable

_items: TypeAdapter[list[TResponseOutputItem]] = TypeAdapter(list[TResponseOutputItem])


class JournalledModel(Model):
    """Answers from the journal what was answered before; asks the provider for the rest.

    `task` is the end of what it is asked. A server that takes a JSON Schema is shown none in words;
    for any other an example of the answer stands before the task. `said` is what the card says of
    its model beyond what every card says.
    """

    def __init__(
        self,
        inner: Model,
        provider: Provider,
        calls: Calls,
        limits: Limits,
        task: str = "",
        said: Mapping[str, Any] | None = None,
    ) -> None:
        self.inner = inner
        self.provider = provider
        self.calls = calls
        self.limits = limits
        self.said = said or {}
        self.task = task
        #: Whether the example is shown to every server: to one that was given the schema and has
        #: answered otherwise, for one.
        self.shows_form = False
        #: Why each answer so far was cut off, in their order; '' where it is whole.
        self.cuts: list[str] = []
        #: The names of those calls in the journal.
        self.names: list[str] = []
        self._asked: tuple[str | None, str | list[TResponseInputItem]] = ("", "")
        self._answers: list[ModelResponse] = []

    def exchange(self) -> Exchange:
        """Return what was asked last, and all that was answered."""
        instructions, question = self._asked
        if not isinstance(question, str):
            question = msgspec.json.encode(question, enc_hook=_plain).decode()
        return Exchange(
            model=self.provider.label,
            instructions=_short(instructions or ""),
            input=_short(question),
            answers=[_short(_said(answer)) for answer in self._answers],
        )

    async def get_response(
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],
        model_settings: ModelSettings,
        tools: list[Tool],
        output_schema: AgentOutputSchemaBase | None,
        handoffs: list[Handoff],
        tracing: ModelTracing,
        *,
        previous_response_id: str | None,
        conversation_id: str | None,
        prompt: ResponsePromptParam | None,
    ) -> ModelResponse:
        self._asked = (system_instructions, input)
        # Requests that say no more than they could before are what they were: their answers count.
        request = msgspec.json.encode(
            [
                self.provider.target.label,
                system_instructions,
                input,
                model_settings.temperature,
                model_settings.max_tokens,
                [[tool.name, getattr(tool, "params_json_schema", None)] for tool in tools],
                output_schema.json_schema() if output_schema is not None else None,
                *([self.said] if self.said else []),
            ],
            enc_hook=_plain,
        )

        async def ask(settings: ModelSettings, schema: AgentOutputSchemaBase | None) -> bytes:
            provider = self.provider
            answer = Answering(provider.label, self.limits, STREAM not in provider.refuses)
            asked = input
            if output_schema is not None and (schema is None or self.shows_form):
                asked = _with_form(input, output_schema.json_schema(), self.task)
            async with answer.limited():
                response = await self.inner.get_response(
                    system_instructions,
                    asked,
                    settings,
                    tools,
                    schema,
                    handoffs,
                    tracing,
                    previous_response_id=previous_response_id,
                    conversation_id=conversation_id,
                    prompt=prompt,
                )
            return _dump(response, answer.cut)

        async def call() -> bytes:
            while True:
                # Too many at a time is no fault of this one: it has its place in the next ones.
                with contextlib.suppress(ModelBusy):
                    async with self.provider.call(self.limits.total.seconds):
                        return await self._ask_its_way(ask, model_settings, output_schema)

        label = self.provider.label
        response, why = _load(await self.calls.once(request, call, MODEL, label))
        made = self.calls.made[-1]
        made.finish, usage = why, response.usage
        made.input_tokens, made.output_tokens = usage.input_tokens, usage.output_tokens
        made.cached_tokens = usage.input_tokens_details.cached_tokens
        made.cache_write_tokens = usage.input_tokens_details.cache_write_tokens
        made.reasoning_tokens = usage.output_tokens_details.reasoning_tokens
        self.provider.put_price_on(made)
        self.cuts.append(why)
        self.names.append(made.key)
        self._answers.append(response)
        return set_apart(response)

    async def _ask_its_way(self, ask: Any, settings: ModelSettings, schema: Any) -> bytes:
        """The answer, asked for in the way that this server understands."""
        provider = self.provider
        ways = [SCHEMA, OBJECT, PLAIN] if schema is not None else [PLAIN]
        ways = ways[ways.index(provider.json_way) :] if schema is not None else ways
        refused = True
        for way in ways:
            try:
                answer: bytes = await self._without_refused(ask, settings, schema, way)
            except openai.APIStatusError as exc:
                # Servers answer 400, 422, or 500 to a response format that they do not know; one
                # that is simply down fails in every way, and the last failure is what counts.
                if way == ways[-1] or exc.status_code not in (400, 422, 500, 501):
                    raise
                # A 500 may pass, unless it says that it is about this: it is no property of the
                # server, and the next call asks again.
                refused = refused and (exc.status_code < 500 or _names_the_form(exc))
                continue
            if schema is not None and refused:
                provider.json_way = way
            return answer
        raise AssertionError("there is always a way")

    async def _without_refused(
        self, ask: Any, settings: ModelSettings, schema: Any, way: str
    ) -> bytes:
        """`ask`, without the settings that this model refuses (reasoning ones take no temperature,
        and have another name for the limit)."""
        provider = self.provider
        if way == OBJECT:
            form = {"type": "json_object", "schema": schema.json_schema()}
            body = {**cast("dict[str, Any]", settings.extra_body or {}), "response_format": form}
            settings = settings.resolve(ModelSettings(extra_body=body))
        schema = schema if way == SCHEMA else None
        while True:
            without = frozenset(provider.refuses)
            try:
                answer: bytes = await ask(provider.allowed(settings), schema)
                return answer
            except openai.APIError as exc:
                refused = _refused(exc)
                if refused is None or refused in without:
                    raise
                provider.refuse(refused)

    def stream_response(self, *args: Any, **options: Any) -> AsyncIterator[TResponseStreamEvent]:
        raise NotImplementedError("a step needs the whole answer: it is recorded as one")


def _with_form(input: Any, schema: dict[str, Any], task: str) -> list[TResponseInputItem]:
    """`input` with an example of the answer in the first message, before the task."""
    first, *later = [{"role": "user", "content": input}] if isinstance(input, str) else input
    example = json.dumps(example_of(schema), ensure_ascii=False, indent=2)
    form = f"Answer with one JSON object of this form, and with nothing else:\n{example}"
    given = first["content"].removesuffix(task).rstrip()
    return [{**first, "content": "\n\n".join(filter(None, [given, form, task]))}, *later]


def _refused(error: openai.APIError) -> str | None:
    """The setting that the server says it does not support: its first word about one, as the second
    is what it wants instead. To be streamed is our own wish: whatever it says of that is enough."""
    if isinstance(error, openai.APIConnectionError) or status_of(error) not in (400, 422):
        return None
    said = words_of(error)
    found = [error.param, *re.findall(r"[a-z_]+", said.lower())]
    names = (STREAM if word == "streaming" else word for word in found)
    ours = (STREAM, "stream_options")
    return next(
        (one for one in names if one in ours or (one in REFUSABLE and "upported" in said)), None
    )


def _names_the_form(error: openai.APIStatusError) -> bool:
    return any(word in words_of(error) for word in ("response_format", SCHEMA, OBJECT))


def _plain(value: Any) -> Any:
    return value.model_dump(exclude_unset=True) if isinstance(value, BaseModel) else str(value)


def _said(response: ModelResponse) -> str:
    """What the model said: its text, or that it refuses, and the tools that it called."""
    said: list[str] = []
    for item in response.output:
        if isinstance(item, ResponseOutputMessage):
            said += [
                one.text if isinstance(one, ResponseOutputText) else one.refusal
                for one in item.content
            ]
        elif isinstance(item, ResponseFunctionToolCall):
            said.append(f"{item.name}({item.arguments})")
    return "\n".join(said)


def _short(text: str) -> str:
    left_out = len(text) - LONGEST
    return text if left_out <= 0 else f"{text[:LONGEST]}… ({left_out} characters more)"


def _dump(response: ModelResponse, why_cut: str) -> bytes:
    usage = response.usage
    return msgspec.json.encode(
        {
            "output": [storable(item.model_dump(exclude_unset=True)) for item in response.output],
            "usage": [
                *(usage.requests, usage.input_tokens, usage.output_tokens),
                usage.input_tokens_details.cached_tokens,
                usage.input_tokens_details.cache_write_tokens,
                usage.output_tokens_details.reasoning_tokens,
            ],
            "response_id": response.response_id,
            "cut": why_cut,
        },
        enc_hook=_plain,
    )


def _load(answer: bytes) -> tuple[ModelResponse, str]:
    read = msgspec.json.decode(answer)
    # Those of before have three numbers.
    numbers = [*read["usage"], 0, 0, 0]
    requests, input_tokens, output_tokens, cached, cache_write, reasoning = numbers[:6]
    response = ModelResponse(
        output=_items.validate_python(read["output"]),
        usage=TokenUsage(
            requests=requests,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            total_tokens=input_tokens + output_tokens,
            input_tokens_details=InputTokensDetails(
                cached_tokens=cached, cache_write_tokens=cache_write
            ),
            output_tokens_details=OutputTokensDetails(reasoning_tokens=reasoning),
        ),
        response_id=read["response_id"],
    )
    return response, read.get("cut", "")  # those of before have none
