"""Providers: what the errors of a server mean for the event, as the real client raises them."""

import asyncio
import email.utils
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from agents import ModelBehaviorError, OpenAIChatCompletionsModel, OpenAIResponsesModel

from penstock.conditions import DOWN, UP
from penstock.errors import (
    ModelBusy,
    ModelError,
    ModelFailed,
    ModelLocked,
    ModelMisbehaved,
    ModelRefused,
    ModelUnavailable,
    Unavailable,
)
from penstock.journal import asking
from penstock.models.gate import Gates
from penstock.models.names import Target
from penstock.models.providers import Providers, explain, retry_after_s
from penstock.models.shapes import joined
from penstock.signals import Signals
from tests.programs import ROOT

Handler = Callable[[httpx2.Request], httpx2.Response]
SERVER = Target("server", "m", "http://gpu/v1", "none")
REQUEST = httpx2.Request("POST", "http://gpu/v1/chat/completions")


def error_of(handler: Handler) -> Exception:
    """What OpenAI's client raises when the server answers so."""

    async def ask() -> None:
        async with openai.AsyncOpenAI(
            base_url="http://gpu/v1",
            api_key="none",
            max_retries=0,
            http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(handler)),
        ) as client:
            made: Any = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "hello"}]
            )
            assert made.choices[0].message.content

    try:
        asyncio.run(ask())
    except Exception as exc:
        return exc
    raise AssertionError("there was an answer")


def explained(handler: Handler) -> ModelError:
    return explain(error_of(handler), "server/m", 30)


def answer(status: int, **options: Any) -> Handler:
    return lambda request: httpx2.Response(status, **options)


def failing(error: Exception) -> Handler:
    def handler(request: httpx2.Request) -> httpx2.Response:
        raise error

    return handler


def openais(message: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "some_error", "param": None, "code": code}}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, ModelFailed) for status in (408, 409, 425, 500, 501)),
        *((status, ModelUnavailable) for status in (502, 503, 504, 529)),
        (429, ModelBusy),
    ],
)
def test_what_may_pass_is_tried_again(status, kind):
    error = explained(answer(status, json=openais("try later")))
    assert type(error) is kind and isinstance(error, ModelUnavailable) and not error.unreached
    assert error.message == f"server/m answered {status}: try later"


@pytest.mark.parametrize(
    ("status", "body", "advice"),
    [
        (
            401,
            openais("Incorrect API key"),
            "The key is given to the server of OPENAI_BASE_URL only",
        ),
        (
            403,
            openais("not in your country"),
            "The key is given to the server of OPENAI_BASE_URL only",
        ),
        (402, openais("Insufficient balance"), "Check the plan and the quota"),
        (429, openais("You exceeded it", "insufficient_quota"), "Check the plan and the quota"),
        (
            429,
            {"error": {"message": "You exceeded it", "type": "insufficient_quota", "code": None}},
            "Check the plan and the quota",
        ),
    ],
)
def test_what_somebody_must_mend_is_an_outage_and_not_the_events_fault(status, body, advice):
    error = explained(answer(status, json=body))
    assert isinstance(error, ModelLocked) and isinstance(error, Unavailable)
    assert error.message.endswith(advice)
    assert f"answered {status}: {body['error']['message']}" in error.message


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_will_not_pass_is_refused(status):
    error = explained(answer(status, json=openais("too long")))
    assert isinstance(error, ModelRefused) and not isinstance(error, Unavailable)
    assert error.message == f"server/m answered {status}: too long"


def test_a_model_that_is_not_there_says_what_to_look_at():
    error = explained(answer(404, json=openais("model 'm' not found")))
    assert isinstance(error, ModelRefused)
    assert error.message == (
        "server/m answered 404: model 'm' not found. Check the model's name and the address"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"json": {"error": "as text"}}, "as text"),
        ({"json": {"message": "at the top"}}, "at the top"),
        ({"json": {"detail": [{"loc": ["body"]}]}}, "{'detail': [{'loc': ['body']}]}"),
        ({"html": "<h1>Bad Gateway</h1>"}, "<h1>Bad Gateway</h1>"),
        ({"text": ""}, "no message"),
        ({"json": []}, "[]"),
    ],
)
def test_whatever_the_body_of_an_error_looks_like_it_is_in_the_message(options, message):
    assert explained(answer(502, **options)).message == f"server/m answered 502: {message}"


def test_a_long_body_is_cut():
    assert len(explained(answer(500, text="x" * 10_000)).message) < 400
    assert len(explained(answer(500, json=openais("x" * 10_000))).message) < 600


def test_the_servers_own_time_is_kept():
    error = explained(answer(429, json=openais("slow down"), headers={"retry-after": "17"}))
    assert isinstance(error, ModelUnavailable) and error.retry_after_s == 17
    error = explained(answer(503, text="busy"))
    assert isinstance(error, ModelUnavailable) and error.retry_after_s is None


def test_a_time_out_names_the_limit():
    for error, limit in (
        (explained(failing(httpx2.ReadTimeout(""))), "30"),
        (explain(TimeoutError(), "server/m", 0.5), "0.5"),
    ):
        assert type(error) is ModelFailed and error.timed_out, "a call that was taken"
        assert error.message == f"server/m did not answer within {limit} s"


def test_a_server_that_is_not_there_is_named_with_the_cause():
    for cause, said in (
        (httpx2.ConnectError("[Errno 111] Connection refused"), "[Errno 111] Connection refused"),
        (httpx2.ConnectTimeout(""), "ConnectTimeout"),
    ):
        error = explained(failing(cause))
        assert type(error) is ModelUnavailable and error.unreached
        assert error.message == f"server/m cannot be reached: {said}"


def test_a_connection_that_is_cut_says_that_it_is_away_but_not_that_nobody_is_there():
    error = explained(failing(httpx2.RemoteProtocolError("Server disconnected")))
    assert type(error) is ModelUnavailable and not error.unreached


@pytest.mark.parametrize(
    "options",
    [
        {"html": "<h1>Log in to the hotel's network</h1>"},
        {"text": '{"choices": [{"mess', "headers": {"content-type": "application/json"}},
        {"json": {"choices": None}},
        {"json": {"object": "chat.completion"}},
    ],
)
def test_an_answer_that_is_no_completion_may_be_one_the_next_time(options):
    error = explained(answer(200, **options))
    assert type(error) is ModelFailed
    assert error.message.startswith("server/m answered with something that is not a completion (")


def test_an_error_that_is_explained_already_is_raised_as_it_is():
    error = ModelMisbehaved("odd")
    assert explain(error, "server/m", 30) is error


def test_a_model_that_ran_out_of_tokens_says_which_key_to_raise():
    error = explain(ModelBehaviorError("no text, finish_reason='length'"), "server/m", 30)
    assert isinstance(error, ModelRefused) and "raise max_tokens" in error.message
    error = explain(ModelBehaviorError("odd JSON"), "server/m", 30)
    assert type(error) is ModelFailed and error.message == "server/m: odd JSON"


# -- Retry-After


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "17"}, 17),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after-ms": "inf", "retry-after": "9"}, 9),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
    ],
)
def test_retry_after_is_read_as_seconds_milliseconds_or_a_date(headers, seconds):
    assert retry_after_s(httpx2.Headers(headers)) == seconds


def test_a_date_in_the_future_is_so_many_seconds_away():
    in_a_minute = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert retry_after_s({"retry-after": in_a_minute}) == pytest.approx(60, abs=2)


# -- clients


def test_each_target_has_one_client_that_does_not_retry_by_itself():
    """OpenAI is asked for responses, others for completions, which they all know."""

    async def main() -> None:
        providers = Providers()
        server = providers.get(SERVER)
        assert providers.get(SERVER) is server
        assert server.client is not None and server.client.max_retries == 0
        assert str(server.client.base_url) == "http://gpu/v1/"
        assert isinstance(server.model, OpenAIChatCompletionsModel)
        openais = providers.get(Target("openai", "m", None, "sk"))
        assert isinstance(openais.model, OpenAIResponsesModel)
        offline = providers.get(Target("offline", "storyteller"))
        assert (offline.client, offline.model) == (None, None)
        await providers.close()
        assert list(providers) == [] and server.client.is_closed()

    asyncio.run(main())


def test_two_servers_that_call_their_models_the_same_have_gates_of_their_own() -> None:
    async def main() -> None:
        gates = Gates(Signals())
        providers = Providers(gates=gates)
        away, there = (
            providers.get(Target("server", "default", f"http://who:secret@{host}:8080/v1", "none"))
            for host in ("gpu-1", "gpu-2")
        )
        for _ in range(3):
            with pytest.raises(ModelUnavailable):
                async with away.call(10):
                    raise openai.APIConnectionError(request=REQUEST)
        async with there.call(10):
            pass
        down, up = (one for one in gates.conditions if one.what == "model")
        assert (down.state, up.state) == (DOWN, UP)
        assert down.reason.startswith("server/default at gpu-1:8080/v1: ")
        assert up.reason == "server/default at gpu-2:8080/v1"
        await providers.close()

    asyncio.run(main())


@pytest.mark.parametrize("looks", [1, 2], ids=["before it begins", "between headers and body"])
def test_a_request_leaves_only_while_its_event_is_ours(looks: int):
    """A process may be suspended after a call has begun; somebody else has the event then. A server
    does nothing about a request before it has all of it."""

    async def ask() -> list[bytes]:
        got = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = head.partition(b"content-length: ")[2].split(b"\r\n")[0]
            got.append(await reader.readexactly(int(size)))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        ours, asked = asyncio.Event(), asyncio.Event()

        left = looks

        def lease() -> Any:
            nonlocal left
            left -= 1
            if left:
                return None
            asked.set()
            return ours.wait()

        providers = Providers()
        target = Target("server", "m", f"http://127.0.0.1:{port}/v1", "none")
        client = providers.get(target).client
        assert client is not None
        asking.set(lease)
        call = asyncio.ensure_future(client.chat.completions.create(model="m", messages=[]))
        await asked.wait()
        assert not got, "it was asked before anything was sent"
        ours.set()
        with pytest.raises(openai.APIConnectionError):
            await call
        await providers.close()
        server.close()
        return got

    assert len(asyncio.run(ask())) == 1


def test_no_call_is_made_while_another_thread_loads_the_http_client_of_the_memory() -> None:
    """openai's client looks at a loaded httpx for its classes, and finds none in half of one."""
    look = "import sys, penstock.models.providers; sys.exit('httpx' not in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], cwd=ROOT, check=False).returncode == 0


def test_content_in_parts_is_one_text_with_what_was_thought_in_front():
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "Hello, "},
        "world",
        {"type": "image_url", "image_url": "x"},
    ]
    assert joined(parts) == "<think>hm</think>Hello, world"
