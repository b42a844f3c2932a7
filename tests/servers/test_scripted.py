"""The scripted server does what its module says: tests of pipelines lean on it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import httpx
import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tests.servers import ScriptedServer, scripted_server

DELAY_S = 0.004

TRACE = "0f8fad5b-d9cb-469f-a165-70867728950e"


class Verdict(StrEnum):
    KEEP = "keep"
    REVISE = "revise"


class Remark(BaseModel):
    """Recursive, with a way to end, as a model of a conversation is."""

    text: str = Field(min_length=12)
    answer: Remark | None


class Critique(BaseModel):
    model_config = ConfigDict(extra="forbid")

    verdict: Verdict
    score: int = Field(ge=3, le=9)
    share: float = Field(gt=0, le=1)
    notes: list[str] = Field(min_length=2)
    first: Remark
    remarks: list[Remark]
    by: str | None
    kind: Literal["critique"]
    sure: bool
    written: date
    run: UUID


@pytest.fixture(scope="module")
def process() -> Iterator[ScriptedServer]:
    with scripted_server(delay_s=DELAY_S, jitter=0.5) as server:
        yield server


@pytest.fixture
def server(process: ScriptedServer) -> ScriptedServer:
    process.reset()
    return process


def client() -> httpx.AsyncClient:
    # Certificates are not needed on loopback, and take 20 ms a client to load.
    return httpx.AsyncClient(trust_env=False, verify=False, timeout=5)


async def post(
    server: ScriptedServer, text: str = "Tim", trace: str | None = None, **more: Any
) -> httpx.Response:
    body = {"model": "scripted", "messages": [{"role": "user", "content": text}], **more}
    headers = {"x-trace-id": trace} if trace else {}
    async with client() as http:
        return await http.post(f"{server.base_url}/chat/completions", json=body, headers=headers)


def ask(
    server: ScriptedServer, text: str = "Tim", trace: str | None = None, **more: Any
) -> httpx.Response:
    return asyncio.run(post(server, text, trace, **more))


def content(answer: httpx.Response) -> str:
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


def test_the_same_question_gets_the_same_answer_and_another_a_different_one(
    server: ScriptedServer,
) -> None:
    first, again, other = ask(server), ask(server), ask(server, "Tom")
    assert content(first) == content(again) != content(other)
    assert server.calls()[0]["key"][:8] in content(first)


def test_an_answer_has_usage_that_adds_up(server: ScriptedServer) -> None:
    usage = ask(server).json()["usage"]
    assert usage["prompt_tokens"] > 0 and usage["completion_tokens"] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@pytest.mark.parametrize(
    "response_format",
    [
        {
            "type": "json_schema",
            "json_schema": {"name": "critique", "schema": Critique.model_json_schema()},
        },
        {"type": "json_object", "schema": Critique.model_json_schema()},
    ],
    ids=["json_schema", "json_object"],
)
def test_a_request_with_a_schema_gets_an_instance_of_it(
    server: ScriptedServer, response_format: dict[str, Any]
) -> None:
    critique = Critique.model_validate_json(content(ask(server, response_format=response_format)))
    assert critique.first.answer is not None


def test_each_answered_call_is_two_lines_in_the_log(server: ScriptedServer) -> None:
    ask(server, f"Run {TRACE}")
    ask(server, "Tom", trace="from the header")
    lines = server.logged()
    assert [(line["phase"], line["n"]) for line in lines] == [
        ("asked", 1),
        ("answered", 1),
        ("asked", 2),
        ("answered", 2),
    ]
    assert [line["trace"] for line in server.logged("asked")] == [TRACE, "from the header"]
    assert [line["key"] for line in server.logged("answered")] == [
        call["key"] for call in server.calls()
    ]
    assert lines[0]["t"] <= lines[1]["t"] <= time.time()


def test_a_call_without_a_trace_says_so(server: ScriptedServer) -> None:
    ask(server)
    assert server.calls()[0]["trace"] is None


def test_calls_keep_the_request_for_tests_to_read(server: ScriptedServer) -> None:
    ask(server, "Tim", temperature=0.7)
    (call,) = server.calls()
    assert call["request"]["temperature"] == 0.7
    assert call["answered"] is True


def test_a_delay_is_waited_for_and_varies_by_its_jitter(server: ScriptedServer) -> None:
    for text in "abc":
        ask(server, text)
    asked, answered = server.logged("asked"), server.logged("answered")
    waits = [end["t"] - start["t"] for start, end in zip(asked, answered, strict=True)]
    assert min(waits) >= DELAY_S / 2 and len(set(waits)) == 3


def test_a_status_is_sent_with_its_headers_and_its_body(server: ScriptedServer) -> None:
    fault = {"fault": "status", "status": 429, "headers": {"retry-after": "0.2"}, "body": "later"}
    server.script([fault])
    answer = ask(server)
    assert (answer.status_code, answer.headers["retry-after"], answer.text) == (429, "0.2", "later")
    assert ask(server).status_code == 200


@pytest.mark.parametrize("status", [400, 401, 404, 500, 503])
def test_a_status_without_a_body_has_an_error_as_openai_writes_it(
    server: ScriptedServer, status: int
) -> None:
    server.script([{"fault": "status", "status": status}])
    answer = ask(server)
    assert answer.status_code == status
    assert answer.json()["error"]["message"] == f"scripted {status}"


def test_faults_are_met_in_order_and_as_often_as_they_say(server: ScriptedServer) -> None:
    server.script([{"fault": "none"}, {"fault": "status", "status": 500, "times": 2}])
    server.script([{"fault": "status", "status": 503}])
    assert [ask(server).status_code for _ in range(5)] == [200, 500, 500, 503, 200]


def test_a_fault_with_a_match_waits_for_its_user_message(server: ScriptedServer) -> None:
    server.script([{"match": "Flying", "fault": "status", "status": 500, "times": 2}])
    texts = ["Tim", "the Flying Dog", "Tom", "Flying", "Flying"]
    assert [ask(server, text).status_code for text in texts] == [200, 500, 200, 500, 200]


def test_an_answer_that_is_given_goes_to_who_has_those_instructions_with_its_reasoning(
    server: ScriptedServer,
) -> None:
    answer = {"fault": "answer", "instructions": "critic", "content": "Fine.", "reasoning": "Hm."}
    server.script([answer])
    assert content(ask(server, "You, reader")) != "Fine."
    messages = [{"role": "system", "content": "a critic"}, {"role": "user", "content": "Tim"}]
    message = ask(server, messages=messages).json()["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Fine.", "Hm.")


def test_calls_that_wait_are_answered_when_they_are_released(server: ScriptedServer) -> None:
    server.script([{"fault": "timeout", "times": 9}])

    async def main() -> list[httpx.Response]:
        waiting = [asyncio.create_task(post(server, f"Tim {n}")) for n in range(3)]
        while len(server.logged("asked")) < 3:
            await asyncio.sleep(0.01)
        assert server.logged("answered") == []
        server.release()
        return [*await asyncio.gather(*waiting), await post(server)]

    assert [answer.status_code for answer in asyncio.run(main())] == [200] * 4


def test_a_timeout_ends_when_the_client_leaves_and_nothing_was_answered(
    server: ScriptedServer,
) -> None:
    server.script([{"fault": "timeout"}])

    async def leave_once_asked() -> None:
        waiting = asyncio.create_task(post(server))
        while not server.calls():
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])

    asyncio.run(leave_once_asked())
    assert ask(server, "Tom").status_code == 200
    assert [line["n"] for line in server.logged("answered")] == [2]


def test_a_timeout_with_seconds_is_a_late_answer(server: ScriptedServer) -> None:
    server.script([{"fault": "timeout", "seconds": 0.02}])
    assert ask(server).status_code == 200
    asked, answered = server.logged()
    assert answered["t"] - asked["t"] >= 0.02


def test_a_cut_closes_the_connection_in_the_middle_of_the_body(server: ScriptedServer) -> None:
    server.script([{"fault": "cut"}])
    with pytest.raises(httpx.RemoteProtocolError):
        ask(server)
    assert server.logged("answered") == []


def test_html_is_a_page_with_a_200(server: ScriptedServer) -> None:
    server.script([{"fault": "html"}])
    answer = ask(server)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")


def test_truncated_json_is_a_whole_response_that_cannot_be_read(server: ScriptedServer) -> None:
    server.script([{"fault": "truncated-json"}])
    answer = ask(server)
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_no_usage_and_empty_choices_leave_out_what_they_say(server: ScriptedServer) -> None:
    server.script([{"fault": "no-usage"}, {"fault": "empty-choices"}])
    assert "usage" not in ask(server).json()
    assert ask(server).json()["choices"] == []
    assert [line["fault"] for line in server.logged("answered")] == ["no-usage"]


def test_bad_json_output_fits_no_schema_and_only_once(server: ScriptedServer) -> None:
    server.script([{"fault": "bad-json-output"}])
    wanted = {"type": "json_object", "schema": Critique.model_json_schema()}
    with pytest.raises(ValidationError):
        Critique.model_validate_json(content(ask(server, response_format=wanted)))
    Critique.model_validate_json(content(ask(server, response_format=wanted)))


@pytest.mark.parametrize("fault", [{"fault": "fire"}, {"fault": "cut", "tims": 2}, "cut"])
def test_a_fault_that_cannot_be_played_is_refused_by_name(
    server: ScriptedServer, fault: Any
) -> None:
    with pytest.raises(ValueError, match=r"fire|tims|cut"):
        server.script([fault])


def test_many_calls_at_once_are_each_counted_once(server: ScriptedServer) -> None:
    async def all_at_once() -> None:
        async with client() as http:
            bodies = [{"messages": [{"role": "user", "content": str(n)}]} for n in range(50)]
            url = f"{server.base_url}/chat/completions"
            await asyncio.gather(*(http.post(url, json=body) for body in bodies))

    asyncio.run(all_at_once())
    for phase in ("asked", "answered"):
        assert sorted(line["n"] for line in server.logged(phase)) == list(range(1, 51))


def test_a_server_that_was_killed_restarts_on_its_port_and_counts_on(tmp_path: Path) -> None:
    log_path = tmp_path / "calls.jsonl"
    with scripted_server(log_path=log_path) as first:
        ask(first)
        first.kill()
        with pytest.raises(httpx.ConnectError):
            ask(first)
        with scripted_server(port=first.port, log_path=log_path) as second:
            ask(second)
    assert [line["n"] for line in second.logged("answered")] == [1, 2]


def test_the_server_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from tests.servers import scripted_server\n"
        "with scripted_server() as server:\n"
        "    print(server.port, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TMPDIR": str(tmp_path)},  # a killed process leaves its folder
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as starter:
        assert starter.stdout is not None
        address = ("127.0.0.1", int(starter.stdout.readline()))
        with socket.create_connection(address, timeout=10) as connection:
            starter.kill()
            # Nothing but the server's end closes a connection that has asked nothing.
            assert connection.recv(1) == b""
