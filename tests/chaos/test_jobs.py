"""Jobs under kill -9: each a file, whole, and no recorded answer paid for twice."""

import pathlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.jobs.status import JobStatus
from penstock.record.jobs import TOPICS, trace_id_of
from penstock.runs.runs import DONE
from tests.chaos.clusters import Cluster
from tests.chaos.evidence import ANSWER
from tests.chaos.trials import LONG, SEED
from tests.chaos.verdicts import Verdict
from tests.servers import ScriptedServer
from tests.servers.kafka import KafkaServer

pytestmark = pytest.mark.timeout(900 if LONG else 180)

JOBS = 1000 if LONG else 120
KILLS = (0.2, 0.5, 0.8)
#: Events in flight in each of the two stages that ask.
CONCURRENCY = 20
#: Calls in flight when a worker is killed.
CROWD = 10
#: The jobs that are there before any kill; with each one some more come.
FIRST = JOBS - CROWD * len(KILLS)
SEVERAL = (1, 2, 3)


class JobsTrial(Cluster):
    """Jobs that are pushed, and workers that die over them."""

    topics = ("jobs_answers", "jobs_files")
    readers = {
        "jobs_high": "jobs_high_stream",
        "jobs_low": "jobs_low_stream",
        "jobs_answers": "jobs_write_stream",
    }
    calls = 1

    def __init__(self, *given: Any, **settings: Any) -> None:
        super().__init__(*given, **settings)
        self.names: list[str] = []

    def push(self, names: list[str], round_: int = 0) -> None:
        """The jobs are pushed, every other one as a high one."""
        with self.client() as client:
            for number, name in enumerate(names, round_):
                params = {"query": f"About {trace_id_of(name)}", "output_file": f"{name}.txt"}
                job = {"system_prompt": "You are brief.", "params": params}
                client.push_job(name, job, list(TOPICS)[number % 2])

    def submit(self, count: int) -> None:
        names = [f"{self.random.getrandbits(48):012x}" for _ in range(count)]
        self.push(names)
        self.names += names
        self.submitted += [trace_id_of(name) for name in names]

    def files(self) -> dict[str, set[str]]:
        """What stands in the files, by their names. A worker that dies after the file, and before
        it could say so, leaves it to another."""
        files: dict[str, set[str]] = {}
        for folder in self.folder.glob("data-*/outputs"):
            for file in folder.iterdir():
                files.setdefault(file.name, set()).add(file.read_text())
        return files

    def _check_runs(self, lines: list[dict[str, Any]]) -> tuple[int, list[str]]:
        """How many jobs have no whole file with an answer that was given to them."""
        given = {(line["trace"], line["key"][:8]) for line in lines if line["phase"] == "answered"}
        files = self.files()
        lost, faults = 0, []
        for name in self.names:
            texts = files.pop(f"{name}.txt", set())
            found = {
                (trace_id_of(name), digest) for text in texts for digest in ANSWER.findall(text)
            }
            if len(texts) != 1 or not found & given:
                lost += 1
                faults.append(f"job {name} has {len(texts)} answers in files: {texts!r:.200}")
        # What was being written at a kill: a worker that came back to its folder has used it up.
        alone = not list(self.folder.glob("data-2"))
        strays = [name for name in files if alone or not name.startswith(".")]
        return lost, faults + [f"a file that no job asked for: {name}" for name in strays]

    async def _read_as_a_client(self, lines: list[dict[str, Any]]) -> list[str]:
        async with self.client() as client:
            found = {status.name: status for status in await client.jobs()}
        faults = [f"job {name} is unknown" for name in self.names if name not in found]
        files = self.files()
        return faults + [
            f"job {name} is {status.state} {status.error}"
            for name, status in found.items()
            if not is_done(status) or files[f"{name}.txt"] != {status.answer.rstrip("\n") + "\n"}
        ]


def is_done(status: JobStatus) -> bool:
    file = f"outputs/{status.name}.txt"
    return status.state == DONE and status.file == file and not status.others


@pytest.fixture
def broker(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> str:
    """The address of one that holds nothing."""
    if request.param == "sqlite":
        return f"sqlite://{tmp_path / 'broker.db'}"
    kafka: KafkaServer = request.getfixturevalue("kafka_to_kill")
    return f"kafka://{kafka.address}"


@pytest.fixture
def trial(
    request: pytest.FixtureRequest, broker: str, tmp_path: pathlib.Path, server: ScriptedServer
) -> Iterator[JobsTrial]:
    mark = request.node.get_closest_marker("settings")
    settings = {"PENSTOCK_CONCURRENCY": str(CONCURRENCY), **(mark.kwargs if mark else {})}
    trial = JobsTrial(request.node.name, tmp_path, server, broker, **settings)
    print(f"PENSTOCK_TEST_RANDOM={SEED}")
    try:
        yield trial
    finally:
        trial.close()


@pytest.mark.parametrize("broker", ["sqlite", "kafka"], indirect=True)
def test_every_job_is_one_file_and_none_is_paid_for_twice_over_three_kills(
    trial: JobsTrial, judged: list[Verdict]
) -> None:
    trial.env["PENSTOCK_WORKER_ID"] = "the-one"  # the next one takes its place at once
    trial.submit(FIRST)  # before any worker has been there
    trial.start(1)
    for round_, share in enumerate(KILLS):
        trial.wait_for_a_crowd(answered=share, count=CROWD)
        t = time.time()
        trial.kill(1)
        # Pushed again after each kill, on either topic, as by somebody who does not know.
        trial.push(trial.names[:20], round_)
        trial.start(1)
        trial.recovered(t)
    judge(trial, judged)


@pytest.mark.long  # `test_kafka` kills among three workers, too
@pytest.mark.parametrize("broker", ["kafka"], indirect=True)
@pytest.mark.settings(PENSTOCK_PARTITIONS="12")
def test_jobs_among_three_workers_outlive_three_of_them(
    trial: JobsTrial, judged: list[Verdict]
) -> None:
    trial.start(*SEVERAL)
    trial.submit(FIRST)
    for round_, share in enumerate(KILLS):
        trial.wait_for_a_crowd(answered=share, count=CROWD)
        slot = trial.random.choice(SEVERAL)
        trial.kill(slot)
        trial.push(trial.names[:20], round_)
        trial.start(slot)
    judge(trial, judged)


def judge(trial: JobsTrial, judged: list[Verdict]) -> None:
    verdict = trial.judge()
    judged.append(verdict)
    verdict.keeps_the_promise()
    assert len(trial.names) == JOBS
    # Not more than one worker had in flight when it died.
    assert len(verdict.repeats) <= 2 * CONCURRENCY * len(KILLS)
    assert verdict.calls == len(trial.names) + len(verdict.repeats)
