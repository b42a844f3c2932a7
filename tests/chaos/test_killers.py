"""An event that kills its worker each time ends as a dead letter, and takes no other with it."""

import functools
import json
import pathlib

import pytest

from tests.programs import Worker, environment, penstock, wait_until
from tests.servers.kafka import KafkaServer

pytestmark = pytest.mark.timeout(240)

CHAIN = """
pipeline: words
topics: {word: A word, echo: The same}
stages:
  - {reads: word, step: echo, writes: echo}
"""
STEPS = """
import asyncio, os, pathlib, signal
from penstock.steps import Work, step

@step("echo")
async def echo(work: Work) -> str:
    word = work.parts["word"]
    if word == "poison":
        # The others that were taken with it are in flight, too.
        await asyncio.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(0.2)
    return word
"""
OTHERS = 12


@pytest.fixture(params=["sqlite", "kafka"])
def env(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> dict[str, str]:
    """A project with a step that kills its worker when it is given poison."""
    project = tmp_path / "project"
    for name in ("agents", "topics", "steps"):
        (project / name).mkdir(parents=True)
    (project / "topics" / "words.yaml").write_text(CHAIN)
    (project / "steps" / "words.py").write_text(STEPS)
    settings = {"PENSTOCK_PROJECT": str(project), "PENSTOCK_PARTITIONS": "2"}
    if request.param == "sqlite":
        return environment(tmp_path, **settings)
    kafka: KafkaServer = request.getfixturevalue("kafka_to_kill")
    return environment(
        tmp_path,
        PENSTOCK_BROKER=f"kafka://{kafka.address}",
        PENSTOCK_APP_ID="killers",
        PENSTOCK_WORKER_ID="the-one",  # the next worker takes the place of a killed one at once
        **settings,
    )


def test_an_event_that_kills_its_worker_is_a_dead_letter_and_the_others_end(
    env: dict[str, str], tmp_path: pathlib.Path
) -> None:
    first = Worker(env, tmp_path)
    first.ready()
    assert first.stop() == 0  # the topics are there
    words = ["poison", *(f"word {n}" for n in range(OTHERS))]
    file = tmp_path / "runs.jsonl"
    file.write_text("".join(json.dumps({"word": word}) + "\n" for word in words))
    sent = penstock("submit", "words", "--file", str(file), env=env)
    assert sent.returncode == 0, sent.stderr
    poisoned, *others = sent.stdout.split()

    deaths = 0
    while True:
        worker = Worker(env, tmp_path)
        try:
            if not died(worker):
                for trace_id in others:
                    wait_until(functools.partial(is_done, trace_id, env), "the others")
                assert worker.stop() == 0
                break
        finally:
            worker.kill()
        deaths += 1
        assert deaths <= 12, worker.text()[-3000:]
    assert deaths > 4, "so many can be chance"
    (dead_letter,) = map(
        json.loads, penstock("dead-letters", "--json", env=env).stdout.splitlines()
    )
    assert (dead_letter["trace_id"], dead_letter["cause"]) == (poisoned, "KilledWorker")
    assert "died 2 times while this event was alone" in dead_letter["message"]


def died(worker: Worker) -> bool:
    """Whether it did, sooner than it wrote a dead letter."""

    def over() -> bool:
        return worker.process.poll() is not None or "ends as a dead letter" in worker.text()

    wait_until(over, "a death or a dead letter")
    return worker.process.poll() is not None


def is_done(trace_id: str, env: dict[str, str]) -> bool:
    traced = json.loads(penstock("trace", trace_id, "--json", env=env).stdout)
    return bool(traced["state"] == "done")
