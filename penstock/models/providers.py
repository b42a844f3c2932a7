"""Providers: a model of the SDK for each target, and what its errors mean."""

import contextlib
import dataclasses
import email.utils
import functools
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import openai
from agents import (
    Model,
    ModelBehaviorError,
    ModelResponse,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    set_trace_processors,
)
from agents.models import get_default_model

from penstock.conditions import Condition
from penstock.errors import (
    ModelBusy,
    ModelError,
    ModelFailed,
    ModelLocked,
    ModelRefused,
    ModelUnavailable,
)
from penstock.journal import Call, asking
from penstock.models.gate import Gates
from penstock.models.local.engine import Engine
from penstock.models.names import Target
from penstock.models.offline.model import OfflineModel
from penstock.models.prices import Prices
from penstock.models.shapes import in_shape
from penstock.models.streams import answering, completion, responded
from penstock.signals import SettingRefused, Signals

# The openai client looks at httpx where that is loaded, and fails with an answer in its hands while
# another thread is half way through loading it, as the memory does for Qdrant. So it is loaded now,
# before the first call; without it there is no Qdrant's client either.
with contextlib.suppress(ImportError):
    import httpx  # noqa: F401

#: How a server is asked for JSON, the most exact way first. A server that cannot do one is asked
#: in the next, and remembered.
SCHEMA, OBJECT, PLAIN = "json_schema", "json_object", "plain"
#: What some servers and models refuse, and where that stands in the SDK's settings.
NEWER_LIMIT, STREAM = "max_completion_tokens", "stream"
REFUSABLE = {
    NEWER_LIMIT: None,
    STREAM: None,
    "stream_options": "include_usage",
    "max_tokens": "max_tokens",
    "temperature": "temperature",
}


@dataclasses.dataclass
class Provider:
    """One target's client, what is known of it, and what its calls wait at."""

    target: Target
    gates: Gates
    client: openai.AsyncOpenAI | None = None
    model: Model | None = None
    json_way: str = SCHEMA
    #: Settings that the model has refused: 'temperature' for one that reasons.
    refuses: set[str] = dataclasses.field(default_factory=set)
    redact: Callable[[str], str] = str
    #: Calls in flight at first; None: as many as come.
    calls_at_once: int | None = None
    #: What answers, where that is a process of our own.
    engine: Engine | None = None
    prices: Prices = dataclasses.field(default_factory=Prices)

    @property
    def label(self) -> str:
        return f"{self.target.provider}/{self.target.name or get_default_model()}"

    def put_price_on(self, call: Call) -> None:
        """Say on `call` what it cost, if that is known."""
        call.cost, call.price = self.prices.of(
            self.label,
            *(call.input_tokens, call.cached_tokens, call.output_tokens),
            cache_write_tokens=call.cache_write_tokens,
            base_url=self.target.base_url,
            at=call.asked,
        )

    def refuse(self, setting: str) -> None:
        """From here on, the model is asked without `setting`, which it refuses."""
        if setting in self.refuses:
            return
        self.refuses.add(setting)
        instead = NEWER_LIMIT if setting == "max_tokens" else None
        self.gates.signals.emit(SettingRefused(self.label, setting, instead))

    def allowed(self, settings: ModelSettings) -> ModelSettings:
        """Return `settings` without what the model refuses: the limit of tokens under its newer
        name, where it takes that."""
        if not self.refuses:
            return settings
        limit = settings.max_tokens
        allowed = dataclasses.replace(
            settings, **dict.fromkeys(name for one in self.refuses if (name := REFUSABLE[one]))
        )
        if "max_tokens" in self.refuses and NEWER_LIMIT not in self.refuses and limit is not None:
            allowed = allowed.resolve(ModelSettings(extra_args={NEWER_LIMIT: limit}))
        return allowed

    @contextlib.asynccontextmanager
    async def call(self, timeout_s: float) -> AsyncIterator[None]:
        """Wait until it may be asked; inside, ask it once. What goes wrong is explained."""
        name = self.target.server
        explain = functools.partial(self.explain, timeout_s=timeout_s)
        async with self.gates.call("model", name, explain, self.calls_at_once, timeout_s):
            if self.engine is None:
                yield
            else:
                async with self._reaching(self.engine):
                    yield

    @contextlib.asynccontextmanager
    async def _reaching(self, engine: Engine) -> AsyncIterator[None]:
        """Inside, the engine runs and the client knows where. Its end counts against whoever it was
        answering: one of them may be what ends it."""
        assert self.client is not None
        address = await engine.reach()
        self.client.base_url, self.client.api_key = address
        try:
            yield
        except openai.APIStatusError:
            raise
        except Exception as exc:
            if await engine.has_ended(address):
                said = f"{self.label} ended before it had answered: {engine.ending}"
                raise ModelFailed(f"{said}. It is loaded again") from exc
            raise

    def explain(self, error: Exception, timeout_s: float) -> ModelError:
        """What `error` means, without the key that some servers repeat in what they say."""
        explained = explain(error, self.label, timeout_s)
        explained.message = self.redact(explained.message)
        return explained


class Providers:
    """A provider for each target, one client each, made on the loop that uses it."""

    def __init__(
        self,
        redact: Callable[[str], str] = str,
        gates: Gates | None = None,
        calls_at_once: int = 0,
        prices: Prices | None = None,
    ) -> None:
        self._redact = redact
        self._prices = prices or Prices()
        self._calls_at_once = calls_at_once
        self._gates = gates or Gates(Signals())
        # With a key in the environment the SDK posts traces, prompts included, to OpenAI.
        set_trace_processors([])
        self._providers: dict[Target, Provider] = {}

    def __iter__(self) -> Any:
        return iter(self._providers.values())

    def get(self, target: Target) -> Provider:
        provider = self._providers.get(target)
        if provider is None:
            at_once = self._calls_at_once or target.calls_at_once
            provider = Provider(
                *(target, self._gates),
                redact=self._redact,
                calls_at_once=at_once,
                prices=self._prices,
            )
            self._providers[target] = provider
            if target.provider != "offline":
                self._connect(provider)
        return provider

    def _connect(self, provider: Provider) -> None:
        target = provider.target
        options: dict[str, Any] = {}
        if target.file is not None:
            provider.engine = Engine(target.label, target.file, self._gates.signals)
            options["trust_env"] = False  # a proxy is for what is elsewhere
        # Retries and time limits are ours: the client's own sleep up to 120 s on Retry-After, and
        # it would wait 600 s for an answer.
        client = openai.AsyncOpenAI(
            base_url=target.base_url or "https://api.openai.com/v1",
            api_key=target.api_key or "none",
            max_retries=0,
            timeout=openai.Timeout(None, connect=10.0),
            http_client=openai.DefaultAsyncHttpxClient(
                event_hooks={"request": [_watch]}, **options
            ),
        )
        name = target.name or get_default_model()
        provider.client = client
        if target.provider == "openai" and target.base_url is None:
            provider.model = ResponsesModel(name, client)
        else:
            # Compatible servers know /chat/completions; few know /responses.
            provider.model = ChatModel(name, client)

    def model(
        self, provider: Provider, *, seed: str, writes: str, parts: Mapping[str, object]
    ) -> Model:
        """The SDK's model to ask: the provider's, or an offline one for these parts."""
        if provider.model is not None:
            return provider.model
        return OfflineModel(provider.target.name, seed=seed, writes=writes, parts=parts)

    @property
    def conditions(self) -> Iterator[Condition]:
        """How those are that run here; their gates say how all of them are."""
        for provider in self._providers.values():
            if provider.engine is not None and provider.engine.condition is not None:
                yield provider.engine.condition

    async def close(self) -> None:
        for provider in self._providers.values():
            if provider.engine is not None:
                await provider.engine.close()
            if provider.client is not None:
                with contextlib.suppress(Exception):
                    await provider.client.close()
        self._providers.clear()


#: Why an answer is not whole, in the words of both interfaces, and ours.
CUT = {"length": "length", "max_output_tokens": "length", "content_filter": "content_filter"}


class ChatModel(OpenAIChatCompletionsModel):
    """The SDK's model, which streams what it asks for under the hood, and reads also what
    compatible servers answer in other shapes."""

    async def _fetch_response(self, *args: Any, **options: Any) -> Any:
        call = answering.get()
        if call is None or not call.streamed:
            response = await super()._fetch_response(*args, **options)
        else:
            options["stream"] = True
            _, stream = await super()._fetch_response(*args, **options)
            async with stream:
                try:
                    response = await completion(stream.response, call)
                except openai.APIConnectionError as exc:
                    # It took the call, so this is no sign that it is away, and a call that breaks
                    # off each time must have an end.
                    said = f"{call.label} broke off after {call.tokens} tokens of its answer"
                    raise ModelFailed(f"{said}: {exc.__cause__ or exc}") from exc
        choices = getattr(response, "choices", None) or ()
        if call is not None and choices:
            call.answered = True
            call.cut = CUT.get(choices[0].finish_reason, "")
        in_shape(response)
        return response

    async def get_response(self, *args: Any, **options: Any) -> ModelResponse:
        call = answering.get()
        try:
            return await super().get_response(*args, **options)
        except (ModelError, ModelBehaviorError, openai.APIError):
            raise
        except Exception as exc:
            # What the SDK makes of a completion in no shape that it knows.
            if call is None or not call.answered:
                raise
            said = f"{type(exc).__name__}: {str(exc)[:200]}"
            error = ModelFailed(f"{call.label} gave an answer that cannot be read ({said})")
            error.answered = True
            raise error from exc


class ResponsesModel(OpenAIResponsesModel):
    """The SDK's model, which streams what it asks for under the hood, and says also why an answer
    is not whole."""

    async def _fetch_response(self, *args: Any, **options: Any) -> Any:
        call = answering.get()
        if call is None or not call.streamed:
            response = await super()._fetch_response(*args, **options)
        else:
            options["stream"] = True
            stream = await super()._fetch_response(*args, **options)
            async with contextlib.aclosing(stream):
                response = await responded(stream, call)
        why = getattr(response, "incomplete_details", None)
        if call is not None and why is not None:
            call.cut = CUT.get(why.reason, "")
        return response


async def _watch(request: Any) -> None:
    """Lets `request` leave only while its event is ours, however long a connection took, and notes
    that it has left."""
    lease, call = asking.get(), answering.get()

    async def look(event: str, _: Any) -> None:
        # Between headers and body others have their turn, and a server waits for the body.
        if event.endswith(("send_request_headers.started", "send_request_body.started")):
            waiting = lease() if lease is not None else None
            if waiting is not None:
                await waiting
        elif call is not None and event.endswith("send_request_body.complete"):
            call.taken = True

    request.extensions["trace"] = look


def explain(error: Exception, label: str, timeout_s: float) -> ModelError:
    """What `error` means for the event: try again, wait for somebody, or give up."""
    if isinstance(error, ModelError):
        return error
    cause = error.__cause__
    # By name: the client's own client is one of two, of which one may not be there.
    if type(cause).__name__ in ("ConnectError", "ConnectTimeout"):
        away = ModelUnavailable(f"{label} cannot be reached: {str(cause) or type(cause).__name__}")
        away.unreached = True
        return away
    if isinstance(error, (openai.APITimeoutError, TimeoutError)):
        slow = ModelFailed(f"{label} did not answer within {timeout_s:g} s")
        slow.timed_out = True
        return slow
    if isinstance(error, openai.APIConnectionError):
        return ModelUnavailable(f"{label} cannot be reached: {cause or error}")
    if isinstance(error, openai.APIError):
        return _explain_status(error, label)
    if isinstance(error, ModelBehaviorError):
        if "finish_reason='length'" in str(error):
            return ModelRefused(
                f"{label} ran out of tokens before its first word: raise max_tokens"
            )
        return ModelFailed(f"{label}: {error}")
    # A 200 whose body is a proxy's page, or JSON cut short: the client trips over it somewhere.
    return ModelFailed(
        f"{label} answered with something that is not a completion"
        f" ({type(error).__name__}: {str(error)[:200]})"
    )


#: What servers call an error in the middle of a stream, where they give it no number.
KINDS_OF_ERROR = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "insufficient_quota": 429,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": 529,
}


def _explain_status(error: openai.APIError, label: str) -> ModelError:
    status = status_of(error)
    text = f"{label} answered {status}: {words_of(error)}"
    if status in (401, 403):
        if label.startswith("server/"):
            return ModelLocked(f"{text}. The key is given to the server of OPENAI_BASE_URL only")
        return ModelLocked(f"{text}. Check the key")
    no_quota = "insufficient_quota" in (str(error.code), str(error.type))
    if status == 402 or (status == 429 and no_quota):
        return ModelLocked(f"{text}. Check the plan and the quota")
    later_s = None
    if isinstance(error, openai.APIStatusError):
        later_s = retry_after_s(error.response.headers)
    if status == 429:
        return ModelBusy(text, later_s)
    if status in (502, 503, 504, 529):
        return ModelUnavailable(text, later_s)
    if status in (408, 409, 425) or status >= 500:
        return ModelFailed(text, later_s)
    if status == 404:
        return ModelRefused(f"{text}. Check the model's name and the address")
    return ModelRefused(text)


def status_of(error: openai.APIError) -> int:
    """Return the status of an answer, or what it would be of an error that is stated in a stream
    after a 200; 500 for one that says nothing of the kind."""
    if isinstance(error, openai.APIStatusError):
        return error.status_code
    body = error.body if isinstance(error.body, Mapping) else {}
    said = [str(body.get(key)) for key in ("status", "code", "type")]
    numbers = (int(one) for one in said if one.isdecimal() and 400 <= int(one) < 600)
    kinds = (KINDS_OF_ERROR[one] for one in said if one in KINDS_OF_ERROR)
    return [*numbers, *kinds, 500][0]


def words_of(error: openai.APIError) -> str:
    """Return what the server said, which `str(error)` leaves out where it is no JSON."""
    body = error.body
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping):
            return str(inner.get("message", inner))[:500]
        return str(inner)[:500]
    text = error.response.text if isinstance(error, openai.APIStatusError) else ""
    return (body if isinstance(body, str) and body else text or "no message")[:300]


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait: RFC 9110, section 10.2.3, and OpenAI's milliseconds."""
    for name, seconds in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with contextlib.suppress(ValueError):
            value = float(headers.get(name, "")) * seconds
            if math.isfinite(value):
                return max(0.0, value)
    text = headers.get("retry-after", "")
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    return None
