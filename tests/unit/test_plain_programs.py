"""The client in a plain program, and the same in one with an event loop."""

import asyncio
import pathlib
from typing import Any, assert_type

import pytest

from penstock.client import Client
from penstock.errors import ChainError, NotFound
from penstock.runs.runs import CANCELLED, DONE, RUNNING, Entry, Run
from penstock.settings import Settings
from tests.unit.conftest import make_project
from tests.unit.test_client import Worker

JOBS = pathlib.Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: pathlib.Path) -> Settings:
    make_project(tmp_path / "project")
    for name in ("topics/jobs.yaml", "agents/clerk.md"):
        (tmp_path / "project" / name).write_text((JOBS / name).read_text())
    return Settings(
        project=tmp_path / "project", data=tmp_path / "data", logs=tmp_path / "logs", partitions=2
    )


def finish(settings: Settings, trace_id: str) -> None:
    """Somebody takes the run to its end."""
    worker = Worker(settings)
    worker.step("tale_teller_idea", "idea", "draft", trace_id)
    worker.step("tale_teller_polish_draft", "draft", "text", trace_id)
    worker.step("tale_present_text", "text", None, trace_id)
    worker.store.close()


def test_a_plain_program_calls_what_one_with_a_loop_awaits(settings: Settings) -> None:
    with Client(settings) as client:
        trace_id = client.submit("tale", {"idea": "a snail"})
        assert_type(trace_id, str)
        assert client.read(trace_id).state == RUNNING
        others = client.submit_many("tale", [({"idea": "a crow"}, None), ({"idea": "b"}, None)])
        assert client.cancel(others[0]).trace_id == others[0]
        finish(settings, trace_id)
        run = client.wait(trace_id)
        assert_type(run, Run)
        assert (run.state, run.answer) == (DONE, "TEXT")
        fork = client.rerun(trace_id, "draft")
        assert client.read(fork).entries[0].event.forked_from == trace_id
        with pytest.raises(NotFound, match="there is no job 'none'"):
            client.job("none")
        assert client.jobs() == []


def test_a_program_with_a_loop_awaits_the_same_also_without_async_with(settings: Settings) -> None:
    async def main() -> None:
        client = Client(settings)
        trace_id = await client.submit("tale", {"idea": "a snail"})
        assert_type(trace_id, str)
        assert (await client.read(trace_id)).state == RUNNING
        client.close()

    asyncio.run(main())


def test_a_plain_program_follows_a_run_with_for(settings: Settings) -> None:
    with Client(settings) as client:
        trace_id = client.submit("tale", {"idea": "a snail"})
        topics = []
        for entry in client.follow(trace_id):
            assert_type(entry, Entry)
            topics.append(entry.topic)
            if len(topics) == 1:
                # What is called meanwhile is called as everywhere.
                assert client.read(trace_id).state == RUNNING
                finish(settings, trace_id)
        assert topics == ["idea", "draft", "text"]


def test_a_plain_program_may_stop_following(settings: Settings) -> None:
    with Client(settings) as client:
        trace_id = client.submit("tale", {"idea": "a snail"})
        for entry in client.follow(trace_id):
            assert entry.topic == "idea"
            break
        assert client.read(trace_id).state == RUNNING


def test_mistakes_are_raised_where_they_are_made(settings: Settings) -> None:
    with Client(settings) as client:
        with pytest.raises(ChainError, match="'idea' is empty"):
            client.submit("tale", {"idea": ""})
        with pytest.raises(NotFound, match="there is no run"):
            list(client.follow("0f8fad5b-d9cb-469f-a165-70867728950e"))


def test_a_pushed_job_is_asked_in_both_kinds_of_programs(settings: Settings) -> None:
    job = {"system_prompt": "Be short.", "params": {"query": "Why?", "output_file": "why.txt"}}
    with Client(settings) as client:
        pushed = client.push_job("why", job)
        assert pushed.status().state == RUNNING

        async def main() -> None:
            again = await client.push_job("why", job)
            assert again.again
            state: Any = again.status()
            assert (await state).state == RUNNING

        asyncio.run(main())
        client.cancel_job("why")


def test_a_thread_of_a_program_with_a_loop_is_a_plain_program(settings: Settings) -> None:
    async def main() -> str:
        with Client(settings) as client:
            return await asyncio.to_thread(lambda: client.submit("tale", {"idea": "a snail"}))

    trace_id = asyncio.run(main())
    with Client(settings) as client:
        assert client.read(trace_id).state != CANCELLED
