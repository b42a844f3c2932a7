"""The runner: the only place that calls the OpenAI Agents SDK.

The journal sits in a `Model` around the real one and around the tools, so that every call of a
run with many turns is durable, not only the last answer.
"""

import asyncio
import contextvars
import copy
import dataclasses
import json
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from agents import (
    Agent,
    AgentOutputSchemaBase,
    FunctionTool,
    MaxTurnsExceeded,
    ModelBehaviorError,
    ModelRefusalError,
    ModelSettings,
    RunConfig,
    Runner,
    RunResult,
    function_tool,
)
from agents.usage import Usage as TokenUsage

from penstock.errors import ModelError, ModelMisbehaved
from penstock.journal import TOOL
from penstock.models.journalled import JournalledModel
from penstock.models.names import Target
from penstock.models.providers import Providers
from penstock.models.streams import Limit, Limits
from penstock.models.thinking import thinking_of
from penstock.project.cards import Card
from penstock.project.chains import StageSpec
from penstock.record.events import Usage
from penstock.record.steps import shortened
from penstock.record.values import storable
from penstock.settings import Settings
from penstock.signals import AnswerCut, EchoTaken, ToolFailed
from penstock.steps import Registry
from penstock.worker.prompts import (
    Prompt,
    given_parts,
    instructions_for,
    look_up,
    without_echo,
)
from penstock.worker.work import Answer, Do, StepWork

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
            value = storable(json.loads(_inner_json(json_str)))
            self.card.check_output(value)
        except (ValueError, RecursionError, ModelMisbehaved) as exc:
            raise ModelBehaviorError(f"not the JSON that was asked for: {exc}") from exc
        return value


def _inner_json(text: str) -> str:
    """The object in `text`: small models wrap it in a fence or in a sentence."""
    first, last = text.find("{"), text.rfind("}")
    return text[first : last + 1] if 0 <= first < last else text


def _limit(card: Card, key: str, for_all: float, setting: str) -> Limit:
    """What `card` says under `key`, or what `setting` says for all cards: where both say something
    the lower one."""
    own: float = getattr(card.front, key)
    if for_all and (key not in card.front.model_fields_set or for_all < own):
        return Limit(for_all, setting)
    return Limit(own, f"'{key}' in {card.file}")


def limits_of(card: Card, settings: Settings) -> Limits:
    """How long an answer for `card` may take, and where that is said."""
    return Limits(
        _limit(card, "timeout_s", settings.timeout_s, "PENSTOCK_TIMEOUT_S"),
        _limit(card, "first_token_s", 0, ""),
        _limit(card, "token_timeout_s", 0, ""),
    )


class MostTokens(NamedTuple):
    """How long an answer may be in tokens, where that is said, and what no answer may exceed."""

    tokens: int
    where: str
    at_most: float

    @classmethod
    def of(cls, card: Card, settings: Settings) -> "MostTokens":
        tokens, where = _limit(card, "max_tokens", settings.max_tokens, "PENSTOCK_MAX_TOKENS")
        return cls(int(tokens), where, settings.max_tokens or math.inf)


def _model_settings(card: Card, most: MostTokens) -> ModelSettings:
    said: dict[str, Any] = {}
    if card.front.extra_settings:
        from penstock.project.model_settings import settings_of

        said = settings_of(card.front)
    return ModelSettings(
        temperature=card.front.temperature, max_tokens=most.tokens, include_usage=True, **said
    )


class _Asking:
    """One of a stage's tasks, and the agent that does it."""

    def __init__(self, card: Card, task: str | None, most: MostTokens) -> None:
        self.task = card.task(task)
        self.when_cut = card.when_cut(task)
        output = card.output_for(task)
        self.agent: Agent[Any] = Agent(
            name=card.name,
            model_settings=_model_settings(card, most),
            output_type=CardOutput(card) if output is not None else None,
        )
        self._first: Agent[Any] | None = None

    def agent_for(self, model: JournalledModel) -> Agent[Any]:
        """An agent of its own for one run: many runs at once on one Agent slow each other (640/s,
        not 1,050). The SDK checks and completes the first clone; the others are copies, at a tenth
        of the cost."""
        if self._first is None:
            self._first = self.agent.clone(model=model)
        mine = copy.copy(self._first)
        mine.model = model
        return mine


def agent_step(
    spec: StageSpec,
    card: Card,
    target: Target,
    providers: Providers,
    registry: Registry,
    settings: Settings,
) -> Do:
    """The stage's work as an agent: its answer, text or JSON, is the value of the output."""
    limits, most = limits_of(card, settings), MostTokens.of(card, settings)
    asking = _Asking(card, spec.task, most)
    asking_again = asking if spec.again is None else _Asking(card, spec.again, most)
    tools = [
        function_tool(
            registry.tools[name], name_override=name, failure_error_function=_answer_for_failed
        )
        for name in card.front.tools
    ]

    async def do(work: StepWork) -> Answer:
        started = time.perf_counter()
        provider = providers.get(target)
        now = asking_again if spec.makes in work.event.parts else asking
        instructions = instructions_for(work.event, spec.reads, card)
        parts = given_parts(work.event, spec, card)
        if card.front.recall is not None:
            parts = {**parts, **await look_up(card.front.recall, work, spec.reads)}
        # An offline model looks for what it knows among all parts, by their own names.
        known = dict(work.event.parts)
        known |= {name: part for name, part in parts.items() if name not in known}
        inner = providers.model(provider, seed=work.event.trace_id, writes=spec.makes, parts=known)
        said_by_card = card.front.said_settings
        model = JournalledModel(inner, provider, work.calls, limits, now.task, said_by_card)
        mine = now.agent_for(model)
        mine.instructions = instructions or None
        mine.tools = [_journalled(tool, work) for tool in tools]
        prompt = Prompt(parts, now.task)
        try:
            result, tokens = await _run(mine, prompt, model, now.when_cut, most)
            said = made = result.final_output
            if isinstance(said, str):
                made = without_echo(said, prompt.tags | {spec.makes, spec.word_for(spec.makes)})
            if made is None or (isinstance(made, str) and not made.strip()):
                raise ModelMisbehaved(
                    f"{provider.label} gave an empty answer for card '{card.name}'"
                )
        except ModelError as exc:
            if isinstance(exc, ModelMisbehaved):
                exc.unusable = exc.unusable or tuple(model.names[-1:])
            exc.exchange = model.exchange()
            raise
        why_cut = model.cuts[-1] if model.cuts else ""
        usage = Usage(
            model=provider.label,
            requests=tokens.requests,
            input_tokens=tokens.input_tokens,
            output_tokens=tokens.output_tokens,
            seconds=round(time.perf_counter() - started, 6),
            cut=why_cut or msgspec.UNSET,
        )
        if why_cut:
            work.signals.emit(
                AnswerCut(work.event.trace_id, provider.label, card.name, why_cut, most.where)
            )
        if made != said:
            work.signals.emit(EchoTaken(work.event.trace_id, provider.label, card.name))
        instructions = f"{instructions}\n\n{now.task}".strip()
        thinking = thinking_of(result.raw_responses)
        return Answer([made], usage, card.label, instructions, thinking, model.exchange)

    return do


async def _run(
    agent: Agent[Any], prompt: Prompt, model: JournalledModel, when_cut: str, most: MostTokens
) -> tuple[RunResult, TokenUsage]:
    """What the agent came to and what it used. An answer that was cut off is asked for once more,
    with twice the limit, where `when_cut` says so; one that does not fit its schema gets one
    repair, unless it was cut."""
    spent = TokenUsage()

    async def ask(prompt: Prompt) -> RunResult | ModelBehaviorError:
        try:
            result = await Runner.run(agent, prompt.text, run_config=_config)
        except MaxTurnsExceeded as exc:
            raise ModelMisbehaved(f"agent '{agent.name}': {exc}") from exc
        except ModelRefusalError as exc:
            said = f"the model refused to answer: {exc.refusal}"
            raise ModelMisbehaved(f"agent '{agent.name}': {said}") from exc
        except ModelBehaviorError as exc:
            if exc.run_data is not None:
                spent.add(exc.run_data.context_wrapper.usage)
            return exc
        spent.add(result.context_wrapper.usage)
        return result

    def is_cut() -> bool:
        return bool(model.cuts and model.cuts[-1])

    def limit() -> int:
        return agent.model_settings.max_tokens or 0

    result = await ask(prompt)
    more = int(min(2 * limit(), most.at_most))
    if is_cut() and when_cut == "retry" and more > limit():
        agent.model_settings = dataclasses.replace(agent.model_settings, max_tokens=more)
        result = await ask(prompt)
    if is_cut() and (when_cut != "accept" or isinstance(result, ModelBehaviorError)):
        why, way_out = f"({model.cuts[-1]})", "'cut: accept' in its card lets such answers pass"
        if model.cuts[-1] == "length":
            why, way_out = f"after {limit()} tokens", f"raise {most.where}, or {way_out}"
        if isinstance(result, ModelBehaviorError):
            way_out = f"it is {result}"
        raise ModelMisbehaved(f"agent '{agent.name}': the answer was cut off {why}; {way_out}")
    if isinstance(result, ModelBehaviorError):
        if agent.output_type is None:
            raise ModelMisbehaved(str(result)) from result
        first = len(model.names) - 1
        model.shows_form = True
        result = await ask(prompt.again(str(result)))
        if isinstance(result, ModelBehaviorError):
            misbehaved = ModelMisbehaved(f"agent '{agent.name}', asked twice: {result}")
            misbehaved.unusable = tuple(model.names[first:])
            raise misbehaved from result
    return result, spent


#: Who wants to know of a tool that raised: the SDK tells only the model.
_raised: contextvars.ContextVar[Callable[[Exception], None]] = contextvars.ContextVar("raised")


def _answer_for_failed(context: Any, error: Exception) -> str:
    """What the model is told of a tool that raised `error`, which the log is told, too."""
    _raised.get()(error)
    said = f"{type(error).__name__}: {error}"
    return f"The tool failed: {said}. Mend its arguments, or go on without it."


def _journalled(tool: FunctionTool, work: StepWork) -> FunctionTool:
    """`tool`, each call of it recorded."""

    async def invoke(context: Any, arguments: str) -> Any:
        errors: list[str] = []

        def raised(error: Exception) -> None:
            errors.append(f"{type(error).__name__}: {error}")
            work.signals.emit(ToolFailed(work.event.trace_id, tool.name, error))

        async def call() -> bytes:
            _raised.set(raised)
            return msgspec.json.encode(await tool.on_invoke_tool(context, arguments))

        request = msgspec.json.encode([tool.name, arguments])
        answer = msgspec.json.decode(await work.calls.once(request, call, TOOL, tool.name))
        made, limit = work.calls.made[-1], work.settings.record_text
        made.request, made.answer = shortened(arguments, limit), shortened(answer, limit)
        made.error = "; ".join(errors)
        return answer

    return dataclasses.replace(tool, on_invoke_tool=invoke)


async def ask_once(target: Target, providers: Providers, timeout_s: float) -> tuple[str, Usage]:
    """A real round trip of one model, for `doctor`. Raises `ModelError`."""
    provider = providers.get(target)
    inner = providers.model(provider, seed="doctor", writes="", parts={"text": "Say hello."})
    agent: Agent[Any] = Agent(
        name="doctor", instructions="Answer in one short sentence.", model=inner
    )
    started = time.perf_counter()
    async with provider.call(timeout_s), asyncio.timeout(timeout_s):
        result = await Runner.run(agent, "Say hello.", run_config=_config)
    tokens = result.context_wrapper.usage
    return str(result.final_output), Usage(
        model=provider.label,
        requests=tokens.requests,
        input_tokens=tokens.input_tokens,
        output_tokens=tokens.output_tokens,
        seconds=time.perf_counter() - started,
    )
