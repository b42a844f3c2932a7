"""Jobs under kill -9: each a file, whole, and no recorded answer paid for twice."""

import asyncio
import collections
import hashlib
import http.client
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.client import Client
from penstock.record.jobs import TOPICS, trace_id_of
from penstock.runs.runs import DONE
from penstock.settings import Settings
from tests import programs
from tests.chaos.evidence import ANSWER, KILL, RESPONSE_ID, SHIFT, Death, find_repeats, reading
from tests.chaos.trials import LONG
from tests.chaos.verdicts import check_repeats
from tests.programs import Worker, wait_until
from tests.servers import ScriptedServer

JOBS = 1000 if LONG else 150
KILLS = 3
#: Events in flight in each of the two stages that ask.
CROWD = 20 if LONG else 8
LIMIT_S = 600 if LONG else 120


class Queue:
    """A file of jobs and the workers that die over it, one after the other."""

    def __init__(self, folder: pathlib.Path, server: ScriptedServer) -> None:
        self.folder = folder
        self.server = server
        self.env = programs.environment(
            folder,
            PENSTOCK_SEED="0",
            PENSTOCK_CONCURRENCY=str(CROWD),
            PENSTOCK_MODEL=f"{server.base_url}#scripted",
        )
        self.file = folder / "data" / "penstock.db"
        self.outputs = folder / "data" / "outputs"
        self.deaths: list[Death] = []
        self.worker: Worker | None = None

    def client(self) -> Client:
        return Client(Settings.read(self.env))

    def push(self, names: list[str]) -> None:
        with self.client() as client:
            for number, name in enumerate(names):
                params = {"query": f"About {trace_id_of(name)}", "output_file": f"{name}.txt"}
                job = {"system_prompt": "You are brief.", "params": params}
                client.push_job(name, job, list(TOPICS)[number % 2])

    def kill_at(self, answers: int) -> None:
        """A worker was at work until so many calls were answered, with others in flight, and then
        killed."""
        self.worker = Worker(self.env, self.folder)
        process = self.worker.process

        def there() -> bool:
            assert self.worker is not None
            assert process.poll() is None, self.worker.text()[-3000:]
            answered = len(self.server.logged("answered"))
            return answered >= answers and len(self.server.logged("asked")) > answered

        wait_until(there, f"{answers} answers", LIMIT_S / 2)
        t = time.time()
        self.worker.kill()
        self.worker = None
        # The server has read what the dead worker had sent: our question comes after that.
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        connection.request("GET", "/v1/models")
        connection.getresponse().read()
        connection.close()
        line = len(self.server.logged())
        self.deaths.append(Death(KILL, t, line, frozenset(self.durable()), 0, ()))

    def durable(self) -> set[str]:
        """The calls whose answers are in the file, named as `find_repeats` looks for them."""
        names = set()
        with reading(self.file) as db:
            values = db.execute(
                "select record.key, record.value from record, part where part.topic ="
                f" 'jobs_answers' and record.id >= part.id << {SHIFT}"
                f" and record.id < (part.id + 1) << {SHIFT}"
            ).fetchall()
            for key, value in values:
                found = ANSWER.search(value.decode().rsplit("jobs_answers", 1)[1])
                assert found is not None
                names.add(f"{key.decode()} {found[0]}")
            for key, value in db.execute("select key, value from journal"):
                if not key.startswith(".claims/"):
                    entry = RESPONSE_ID.search(value)
                    assert entry is not None
                    names.add(f"entry {entry[1].decode()}")
        return names

    def judge(self, names: list[str]) -> None:
        """All jobs are done by a last worker, each in a file that holds its answer."""
        self.worker = Worker(self.env, self.folder)

        async def ended() -> dict[str, Any]:
            async with self.client() as client:
                async with asyncio.timeout(LIMIT_S / 2):
                    while True:
                        found = {status.name: status for status in await client.jobs()}
                        if all(status.state != "running" for status in found.values()):
                            return found
                        await asyncio.sleep(0.2)

        found = asyncio.run(ended())
        self.worker.kill()
        assert sorted(found) == sorted(names)
        states = collections.Counter(status.state for status in found.values())
        assert states == {DONE: len(names)}, states
        files = {file.name: file.read_text() for file in self.outputs.iterdir()}
        # What was not finished at a kill has been used up: nothing else is in the folder.
        assert sorted(files) == sorted(f"{name}.txt" for name in names)
        for name, status in found.items():
            assert files[f"{name}.txt"] == status.answer.rstrip("\n") + "\n"
        lines = self.server.logged()
        repeats = find_repeats(lines, self.deaths)
        assert check_repeats(repeats) == []
        # Not more than was in flight, and of that, little was answered: the answers that a kill
        # caught between the server and the file.
        assert len(repeats) <= 2 * CROWD * len(self.deaths)
        answered = [repeat for repeat in repeats if repeat.answered_ms is not None]
        asked = sum(line["phase"] == "asked" for line in lines)
        assert asked == len(names) + len(repeats)
        asked_by = {line["trace"] for line in lines if line["phase"] == "asked"}
        assert asked_by == {trace_id_of(name) for name in names}
        print(
            f"{len(names)} jobs, {len(self.deaths)} kills: {len(files)} files, {asked} calls,"
            f" {len(repeats)} of them again: {len(answered)} answered and not yet recorded,"
            " the rest in flight; 0 recorded"
        )

    def close(self) -> None:
        if self.worker is not None:
            self.worker.kill()


@pytest.fixture
def jobs(tmp_path: pathlib.Path, server: ScriptedServer) -> Iterator[Queue]:
    queue = Queue(tmp_path, server)
    yield queue
    queue.close()


@pytest.mark.timeout(LIMIT_S)
def test_every_job_is_one_file_and_none_is_paid_for_twice_over_three_kills(jobs: Queue) -> None:
    names = [hashlib.sha256(str(n).encode()).hexdigest()[:12] for n in range(JOBS)]
    jobs.push(names)
    for kill in range(KILLS):
        jobs.kill_at(JOBS * (kill + 1) // (KILLS + 1))
        # Pushed again after each kill, as by somebody who does not know: done once all the same.
        jobs.push(names[:20])
    jobs.judge(names)
