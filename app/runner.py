"""The runner: the only place that calls the OpenAI Agents SDK.

The journal sits in a `Model` around the real one and around the tools, so that every call of a
run with many turns is durable, not only the last answer.
"""

import asyncio
import copy
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import openai
from agents import (
    Agent,
    AgentOutputSchemaBase,
    FunctionTool,
    Handoff,
    MaxTurnsExceeded,
    Model,
    ModelBehaviorError,
    ModelResponse,
    ModelSettings,
    ModelTracing,
    RunConfig,
    Runner,
    Tool,
    TResponseInputItem,
    function_tool,
)
from agents.items import TResponseOutputItem, TResponseStreamEvent
from agents.usage import Usage as TokenUsage
from openai.types.responses.response_prompt_param import ResponsePromptParam
from pydantic import BaseModel, TypeAdapter

from app.cards import Card
from app.chains import StageSpec
from app.errors import ModelError, ModelMisbehaved, ModelRefused, StepFailed, Unavailable
from app.events import Event, Usage
from app.journal import Calls
from app.models.names import Target
from app.models.providers import OBJECT, PLAIN, SCHEMA, Provider, Providers
from app.steps import Registry
from app.work import Answer, Do, StepWork

_items: TypeAdapter[list[TResponseOutputItem]] = TypeAdapter(list[TResponseOutputItem])
_config = RunConfig(tracing_disabled=True)


class CardOutput(AgentOutputSchemaBase):
    """A card's JSON Schema as the SDK asks for it."""

    def __init__(self, card: Card) -> None:
        self.card = card

    def is_plain_text(self) -> bool:
        return False

    def name(self) -> str:
        return self.card.name

    def json_schema(self) -> dict[str, Any]:
        return self.card.front.output or {}

    def is_strict_json_schema(self) -> bool:
        # 'strict' allows only a part of JSON Schema; a card may use all of it, and is checked here.
        return False

    def validate_json(self, json_str: str) -> Any:
        try:
            value = json.loads(_inner_json(json_str))
            self.card.check_output(value)
        except (ValueError, ModelMisbehaved) as exc:
            raise ModelBehaviorError(f"not the JSON that was asked for: {exc}") from exc
        return value


def _inner_json(text: str) -> str:
    """The object in `text`: small models wrap it in a fence or in a sentence."""
    first, last = text.find("{"), text.rfind("}")
    return text[first : last + 1] if 0 <= first < last else text


class JournalledModel(Model):
    """Answers from the journal what was answered before; asks the provider for the rest."""

    def __init__(self, inner: Model, provider: Provider, calls: Calls, timeout_s: float) -> None:
        self.inner = inner
        self.provider = provider
        self.calls = calls
        self.timeout_s = timeout_s

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
        request = msgspec.json.encode(
            [
                self.provider.target.label,
                system_instructions,
                input,
                model_settings.temperature,
                model_settings.max_tokens,
                [tool.name for tool in tools],
                output_schema.json_schema() if output_schema is not None else None,
            ],
            enc_hook=_plain,
        )

        async def ask(settings: ModelSettings, schema: AgentOutputSchemaBase | None) -> bytes:
            async with asyncio.timeout(self.timeout_s):
                response = await self.inner.get_response(
                    system_instructions,
                    input,
                    settings,
                    tools,
                    schema,
                    handoffs,
                    tracing,
                    previous_response_id=previous_response_id,
                    conversation_id=conversation_id,
                    prompt=prompt,
                )
            return _dump(response)

        async def call() -> bytes:
            return await self._call(ask, model_settings, output_schema)

        return _load(await self.calls.once(request, call))

    async def _call(self, ask: Any, settings: ModelSettings, schema: Any) -> bytes:
        """One answer, once the provider is up; what went wrong, explained."""
        outage = self.provider.outage
        await outage.passage()
        try:
            answer: bytes = await self._ask_its_way(ask, settings, schema)
        except asyncio.CancelledError:
            outage.left()
            raise
        except Exception as exc:
            error = self.provider.explain(exc, self.timeout_s)
            if isinstance(error, Unavailable):
                error.counts = not outage.failed(error)
            else:
                outage.succeeded()  # it is there, and said no
            raise error from exc
        outage.succeeded()
        return answer

    async def _ask_its_way(self, ask: Any, settings: ModelSettings, schema: Any) -> bytes:
        """The answer, asked for in the way that this server understands."""
        provider = self.provider
        ways = [SCHEMA, OBJECT, PLAIN] if schema is not None else [PLAIN]
        ways = ways[ways.index(provider.json_way) :] if schema is not None else ways
        for way in ways:
            try:
                answer: bytes = await self._without_refused(ask, settings, schema, way)
            except openai.APIStatusError as exc:
                # Servers answer 400, 422, or 500 to a response format that they do not know; one
                # that is simply down fails in every way, and the last failure is what counts.
                if way == ways[-1] or exc.status_code not in (400, 422, 500, 501):
                    raise
                continue
            if schema is not None:
                provider.json_way = way
            return answer
        raise AssertionError("there is always a way")

    async def _without_refused(
        self, ask: Any, settings: ModelSettings, schema: Any, way: str
    ) -> bytes:
        """`ask`, leaving out the settings that this model refuses (reasoning ones take no
        temperature)."""
        provider = self.provider
        if way == OBJECT:
            form = {"type": "json_object", "schema": schema.json_schema()}
            settings = settings.resolve(ModelSettings(extra_body={"response_format": form}))
        schema = schema if way == SCHEMA else None
        while True:
            left_out: dict[str, Any] = dict.fromkeys(provider.refuses)
            try:
                answer: bytes = await ask(dataclasses.replace(settings, **left_out), schema)
                return answer
            except openai.BadRequestError as exc:
                refused = next(
                    (
                        name
                        for name in ("temperature", "max_tokens")
                        if name in str(exc)
                        and "upported" in str(exc)
                        and name not in provider.refuses
                    ),
                    None,
                )
                if refused is None:
                    raise
                provider.refuses.add(refused)

    def stream_response(self, *args: Any, **options: Any) -> AsyncIterator[TResponseStreamEvent]:
        raise NotImplementedError("a step needs the whole answer: it is recorded as one")


def _plain(value: Any) -> Any:
    return value.model_dump(exclude_unset=True) if isinstance(value, BaseModel) else str(value)


def _dump(response: ModelResponse) -> bytes:
    usage = response.usage
    return msgspec.json.encode(
        {
            "output": [item.model_dump(exclude_unset=True) for item in response.output],
            "usage": [usage.requests, usage.input_tokens, usage.output_tokens],
            "response_id": response.response_id,
        },
        enc_hook=_plain,
    )


def _load(answer: bytes) -> ModelResponse:
    read = msgspec.json.decode(answer)
    requests, input_tokens, output_tokens = read["usage"]
    return ModelResponse(
        output=_items.validate_python(read["output"]),
        usage=TokenUsage(
            requests=requests,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            total_tokens=input_tokens + output_tokens,
        ),
        response_id=read["response_id"],
    )


def find_part(event: Event, reads: str, name: str) -> Any:
    """The part `name`, or else the field of that name in the part that the stage reads."""
    if name in event.parts:
        return event.parts[name]
    read = event.parts.get(reads)
    return read.get(name) if isinstance(read, dict) else None


def given_parts(event: Event, reads: str, card: Card) -> dict[str, Any]:
    """What the agent is given of the run: all of its parts, or those that the card names. One that
    is missing or empty is left out. Raises `StepFailed` when nothing is left."""
    names = card.front.given
    if names is None:
        return event.parts
    found = {name: find_part(event, reads, name) for name in names}
    parts = {name: part for name, part in found.items() if part not in (None, "", [], {})}
    if not parts:
        raise StepFailed(
            f"card '{card.name}' is given {', '.join(names)}, and the event has none of them,"
            f" neither as parts nor in '{reads}'"
        )
    return parts


def told_by(event: Event, reads: str, card: Card, instructions: str) -> str:
    """The instructions: the card's own, then those that the run brings. Raises `StepFailed` when
    the card counts on the run and it brings none."""
    name = card.front.instructions_from
    if name is None:
        return instructions
    brought = find_part(event, reads, name)
    if not isinstance(brought, str) or not brought.strip():
        raise StepFailed(
            f"card '{card.name}' has its instructions from '{name}', and the event has no text of"
            f" that name, neither as a part nor in '{reads}'"
        )
    return f"{instructions}\n\n{brought}" if instructions else brought


def write_prompt(parts: Mapping[str, Any]) -> str:
    """What an agent is asked: what the run has made so far, each part under its name."""
    sections = []
    for name, part in parts.items():
        text = part if isinstance(part, str) else json.dumps(part, ensure_ascii=False, indent=2)
        sections.append(f"# {name}\n\n{text}")
    return "\n\n".join(sections)


def agent_step(
    spec: StageSpec, card: Card, target: Target, providers: Providers, registry: Registry
) -> Do:
    """The stage's work as an agent: its answer, text or JSON, is the value of the output."""
    own = card.instructions(spec.task)
    form = ""
    output = card.output_for(spec.task)
    if output is not None:
        schema = json.dumps(output, ensure_ascii=False)
        form = f"\n\nAnswer with one JSON object and nothing else. Its schema:\n{schema}"
    tools = [function_tool(registry.tools[name], name_override=name) for name in card.front.tools]
    agent: Agent[Any] = Agent(
        name=card.name,
        instructions=own + form,
        model_settings=ModelSettings(
            temperature=card.front.temperature, max_tokens=card.front.max_tokens
        ),
        output_type=CardOutput(card) if output is not None else None,
    )

    first: list[Agent[Any]] = []

    async def do(work: StepWork) -> Answer:
        started = time.perf_counter()
        provider = providers.get(target)
        instructions = told_by(work.event, spec.reads, card, own)
        parts = given_parts(work.event, spec.reads, card)
        inner = providers.model(provider, seed=work.event.trace_id, writes=spec.makes, parts=parts)
        model = JournalledModel(inner, provider, work.calls, card.front.timeout_s)
        # One agent a run: many runs at once on one Agent slow each other (640/s, not 1,050). The
        # SDK checks and completes the first clone; the others are copies, at a tenth of the cost.
        if not first:
            first.append(agent.clone(model=model))
        mine = copy.copy(first[0])
        mine.model = model
        mine.instructions = instructions + form
        mine.tools = [_journalled(tool, work.calls) for tool in tools]
        result, tokens = await _run(mine, write_prompt(parts))
        usage = Usage(
            model=provider.label,
            requests=tokens.requests,
            input_tokens=tokens.input_tokens,
            output_tokens=tokens.output_tokens,
            seconds=round(time.perf_counter() - started, 6),
        )
        if result is None or result == "":
            raise ModelMisbehaved(f"{provider.label} gave an empty answer for card '{card.name}'")
        return Answer([result], usage, card.label, instructions)

    return do


async def _run(agent: Agent[Any], prompt: str) -> tuple[Any, TokenUsage]:
    """The agent's answer and what it used. One that does not fit its schema gets one repair."""
    try:
        result = await Runner.run(agent, prompt, run_config=_config)
        return result.final_output, result.context_wrapper.usage
    except ModelBehaviorError as exc:
        if agent.output_type is None:
            raise ModelMisbehaved(str(exc)) from exc
        problem = str(exc)
        spent = exc.run_data.context_wrapper.usage if exc.run_data else TokenUsage()
    except MaxTurnsExceeded as exc:
        raise ModelRefused(f"agent '{agent.name}': {exc}") from exc
    repair = f"{prompt}\n\n# repair\n\nYour last answer could not be used: {problem}\nAnswer again."
    try:
        result = await Runner.run(agent, repair, run_config=_config)
    except ModelBehaviorError as exc:
        raise ModelMisbehaved(f"agent '{agent.name}', asked twice: {exc}") from exc
    spent.add(result.context_wrapper.usage)
    return result.final_output, spent


def _journalled(tool: FunctionTool, calls: Calls) -> FunctionTool:
    """`tool`, each call of it recorded."""

    async def invoke(context: Any, arguments: str) -> Any:
        async def call() -> bytes:
            return msgspec.json.encode(await tool.on_invoke_tool(context, arguments))

        return msgspec.json.decode(
            await calls.once(msgspec.json.encode([tool.name, arguments]), call)
        )

    return dataclasses.replace(tool, on_invoke_tool=invoke)


async def ask_once(target: Target, providers: Providers, timeout_s: float) -> tuple[str, Usage]:
    """A real round trip of one model, for `doctor`. Raises `ModelError`."""
    provider = providers.get(target)
    inner = providers.model(provider, seed="doctor", writes="", parts={"text": "Say hello."})
    agent: Agent[Any] = Agent(
        name="doctor", instructions="Answer in one short sentence.", model=inner
    )
    started = time.perf_counter()
    try:
        async with asyncio.timeout(timeout_s):
            result = await Runner.run(agent, "Say hello.", run_config=_config)
    except ModelError:
        raise
    except Exception as exc:
        raise provider.explain(exc, timeout_s) from exc
    tokens = result.context_wrapper.usage
    return str(result.final_output), Usage(
        model=provider.label,
        requests=tokens.requests,
        input_tokens=tokens.input_tokens,
        output_tokens=tokens.output_tokens,
        seconds=time.perf_counter() - started,
    )
