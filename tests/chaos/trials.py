"""A trial: a pipeline under way on a file of its own, workers that die, and the verdict over it.

    trial.submit(200)
    trial.start().kill()          # or crash(POINT, N), or terminate()
    verdict = trial.judge()       # a last worker ends what is left

The verdict is made from outside: from the file, the model server's log and `penstock.client`.
"""

import asyncio
import contextlib
import http.client
import os
import pathlib
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from penstock.client import Client
from penstock.runs.runs import DEAD, DONE
from penstock.settings import Settings
from tests import programs
from tests.chaos.evidence import (
    END,
    KILL,
    TERM,
    TOPICS,
    Death,
    count_in_flight,
    find_repeats,
    read_file,
    read_progress,
)
from tests.chaos.verdicts import (
    Verdict,
    check_calls,
    check_event_log,
    check_records,
    check_repeats,
    check_stories,
)
from tests.programs import Worker, wait_until
from tests.servers import ScriptedServer

LONG = os.environ.get("PENSTOCK_TEST_LONG") == "1"
SEED = int(os.environ.get("PENSTOCK_TEST_RANDOM") or random.SystemRandom().randrange(10**6))

#: Seconds without any progress after which the verdict is spoken over what there is.
STUCK_S = 15.0
#: Seconds that an answer takes: 21-49 ms.
DELAY_S, JITTER = 0.035, 0.4
#: A fault of the model server: the next calls take so long that something can happen meanwhile.
SLOW = {"fault": "timeout", "seconds": 1.5, "times": 20}
CRASHED = re.compile(r"^crash: (.+) ([0-9.]+)$", re.MULTILINE)


def premise_of(trace_id: str) -> str:
    """A premise of its own for each run, with its name in it for the server's log."""
    return f"A story about {trace_id}"


class Trial:
    """One file, one model server, one worker at a time."""

    def __init__(
        self, name: str, folder: pathlib.Path, server: ScriptedServer, **settings: str
    ) -> None:
        self.name = name
        self.folder = folder
        self.server = server
        self.random = random.Random(f"{SEED}{name}")
        self.env = programs.environment(
            folder,
            PENSTOCK_SEED="0",
            PENSTOCK_MODEL=f"{server.base_url}#scripted",
            PENSTOCK_TEST_CALLS=str(server.log_path),
            **settings,
        )
        self.file = folder / "data" / "penstock.db"
        self.submitted: list[str] = []
        self.deaths: list[Death] = []
        self.recovery_s: list[float] = []
        self.worker: Worker | None = None
        self._submitters: list[Submitter] = []
        self._died_with: tuple[float, int] | None = None

    # -- runs

    def client(self) -> Client:
        return Client(Settings.read(self.env))

    def draw_ids(self, count: int) -> list[str]:
        return [str(uuid.UUID(int=self.random.getrandbits(128), version=4)) for _ in range(count)]

    def submit(self, count: int, filler: str = "") -> list[str]:
        """`count` more runs have begun, each with `filler` in its premise; their trace ids."""
        ids = self.draw_ids(count)

        async def submit() -> None:
            async with self.client() as client:
                await client.submit_many(
                    "story", [({"premise": premise_of(id_) + filler}, id_) for id_ in ids]
                )

        asyncio.run(submit())
        self.submitted += ids
        return ids

    def start_submitter(self, ids: list[str]) -> "Submitter":
        """Another process begins these runs, one after the other."""
        submitter = Submitter(self.env, self.folder, ids)
        self._submitters.append(submitter)
        return submitter

    # -- workers

    def start(self, crash: str | None = None) -> "Trial":
        """A worker is at work: something was finished since it began. With `crash`, one that kills
        itself there, and nothing is waited for."""
        command = ("-m", "penstock", "worker", "-l", "info")
        env = self.env
        if crash is not None:
            command = ("-m", "tests.chaos.crashing_worker", *command[2:])
            env = env | {"PENSTOCK_TEST_CRASH": crash}
        self.worker = Worker(env, self.folder, command=command)
        if crash is None:
            self._wait_for_progress()
        return self

    def _wait_for_progress(self) -> None:
        before, self._died_with = self._died_with, None
        if before is None or not self.file.exists() or not read_file(self.file).unfinished:
            return
        died_at, finished = before

        def going_on() -> bool:
            assert self.worker is not None
            assert self.worker.process.poll() is None, f"it ended:\n{self.worker.text()[-3000:]}"
            return read_progress(self.file)[0] > finished

        wait_until(going_on, "the first step after a restart")
        self.recovery_s.append(time.time() - died_at)

    def kill(self, how: str = KILL) -> Death:
        """`kill -9`, now."""
        assert self.worker is not None
        t = time.time()
        assert self.worker.process.poll() is None, f"it had ended:\n{self.worker.text()[-3000:]}"
        self.worker.kill()
        return self._note_death(how, t)

    def crash(self, point: str, occurrence: int) -> Death:
        """A worker was started that has killed itself at an occurrence of `point`."""
        self.start(f"{point}:{occurrence}")
        assert self.worker is not None
        process, text = self.worker.process, self.worker.text
        wait_until(
            lambda: process.poll() is not None, f"a crash at {point}:{occurrence}:\n{text()}"
        )
        found = CRASHED.search(text())
        assert process.returncode == -signal.SIGKILL, f"it ended by itself:\n{text()[-3000:]}"
        assert found is not None, f"it was killed by somebody else:\n{text()[-3000:]}"
        assert found[1] == point
        return self._note_death(KILL, float(found[2]))

    def terminate(self) -> Death:
        """SIGTERM: what was in flight has ended, and so has the worker."""
        assert self.worker is not None
        t = time.time()
        code = self.worker.stop()
        assert code == 0, f"exit code {code}:\n{self.worker.text()[-3000:]}"
        return self._note_death(TERM, t)

    def kill_draining(self) -> Death:
        """SIGTERM, and `kill -9` while it waits for its calls in flight."""
        assert self.worker is not None
        self.worker.process.send_signal(signal.SIGTERM)
        self.worker.wait_for("events in flight")
        return self.kill()

    def _note_death(self, how: str, t: float) -> Death:
        self.worker = None
        # The server has read what the dead worker had sent: our question comes after that.
        for _ in range(2):
            with contextlib.closing(
                http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
            ) as connection:
                connection.request("GET", "/v1/models")
                connection.getresponse().read()
        line = len(self.server.logged())
        in_flight = count_in_flight(self.file)
        file = read_file(self.file)
        death = Death(how, t, line, frozenset(file.durable), in_flight, tuple(file.half_steps()))
        self.deaths.append(death)
        # The end of an orderly stop, which takes as long as the calls in flight do.
        self._died_with = (time.time() if how == TERM else t, read_progress(self.file)[0])
        return death

    def wait_for(self, share: float, in_flight: int) -> None:
        """`share` of all steps are finished, and so many events are in flight just now."""
        wanted = int(share * len(TOPICS) * len(self.submitted))

        def there() -> bool:
            assert self.worker is not None
            assert self.worker.process.poll() is None, f"it ended:\n{self.worker.text()[-3000:]}"
            return count_in_flight(self.file) >= in_flight and read_progress(self.file)[0] >= wanted

        wait_until(there, f"{wanted} steps finished and {in_flight} events in flight", 120)

    def wait_for_calls(self, *, open_: int) -> None:
        """So many calls wait for their answers."""

        def there() -> bool:
            asked, answered = (len(self.server.logged(phase)) for phase in ("asked", "answered"))
            return asked - answered >= open_

        wait_until(there, f"{open_} calls in flight")

    def wait_for_answers(self, count: int) -> None:
        """So many calls were answered from now on."""
        before = len(self.server.logged("answered"))
        wait_until(
            lambda: len(self.server.logged("answered")) >= before + count, f"{count} answers"
        )

    def kill_in_a_crowd(self, share: float, in_flight: int) -> Death:
        """`kill -9` at any moment after `share` of what is left was done, with so many events in
        flight. A part of the runs must be left by then that is larger than the crowd."""
        finished = read_progress(self.file)[0]
        total = len(TOPICS) * len(self.submitted)
        self.wait_for((finished + share * (total - finished)) / total, in_flight)
        # A step's end is what makes that true: without some time each kill would follow a commit.
        time.sleep(self.random.uniform(0, 0.15))
        deadline = time.monotonic() + programs.PATIENCE_S
        while count_in_flight(self.file) < in_flight:
            assert time.monotonic() < deadline, f"there were never again {in_flight} in flight"
        return self.kill()

    @contextlib.contextmanager
    def locked_file(self) -> Iterator[None]:
        """Inside, nobody else can write to the file, and what could be written before, was."""
        with contextlib.closing(sqlite3.connect(self.file, isolation_level=None, timeout=10)) as db:
            db.execute("begin immediate")
            yield
            db.execute("rollback")

    def move_to(self, copy: pathlib.Path) -> None:
        """From here on, the trial goes on with a copy of its file."""
        self.file = copy
        self.env["PENSTOCK_DATA"] = str(copy.parent)

    def close(self) -> None:
        """No process of this trial is left."""
        for submitter in self._submitters:
            submitter.kill()
        if self.worker is not None:
            self.worker.kill()
            self.worker = None

    # -- the verdict

    def wait_for_the_end(self) -> None:
        """A worker has nothing left to do, or does nothing any more."""
        if self.worker is None:
            self.start()
        assert self.worker is not None
        seen, seen_at = (-1, -1), time.monotonic()
        while not self.is_over():
            assert self.worker.process.poll() is None, f"it ended:\n{self.worker.text()[-3000:]}"
            progress = read_progress(self.file)
            if progress != seen:
                seen, seen_at = progress, time.monotonic()
            if time.monotonic() - seen_at > STUCK_S:
                return  # the verdict says what is missing
            time.sleep(0.05)

    def is_over(self) -> bool:
        file = read_file(self.file)
        return not file.unfinished and file.written(TOPICS[0]) >= len(self.submitted)

    def judge(
        self, *, dead: Sequence[str] = (), repaired: Sequence[str] = (), deleted: bool = False
    ) -> Verdict:
        """Everything has ended, the last worker is killed too, and this is what came of it.

        The runs in `dead` have ended as dead letters, those in `repaired` have asked one question
        more. With `deleted`, retention has taken runs that were over, and they are known by what
        they leave: offsets, and calls.
        """
        self.wait_for_the_end()
        self.kill(END)
        file = read_file(self.file)
        lines = self.server.logged()
        faults = [fault for death in self.deaths for fault in death.faults]
        faults += [f"a journal entry is left: {key}" for key in file.entries]
        faults += [
            f"{n} events on '{topic}' are unfinished" for topic, n in file.unfinished.items()
        ]
        faults += [f"a dead letter: {x}" for x in file.dead_letters if x["trace_id"] not in dead]
        wanted = dict.fromkeys(self.submitted, len(TOPICS) - 1) | dict.fromkeys(
            repaired, len(TOPICS)
        )
        faults += check_calls({t: n for t, n in wanted.items() if t not in dead}, lines)
        if deleted:
            lost = len(self.submitted) - min(file.written(topic) for topic in TOPICS)
            counts = {topic: file.written(topic) for topic in TOPICS}
            if set(counts.values()) != {len(self.submitted)}:
                faults.append(f"{len(self.submitted)} runs made {counts}")
        else:
            lost, found = check_stories(
                [t for t in self.submitted if t not in dead], file.events, lines
            )
            faults += found + asyncio.run(self._read_as_a_client(dead, lines))
            faults += check_event_log(self.folder / "logs", file, len(self.deaths))
        repeats = find_repeats(lines, self.deaths)
        faults += check_repeats(repeats)
        asked = sum(line["phase"] == "asked" for line in lines)
        return Verdict(
            len(self.submitted), self.deaths, lost, asked, repeats, self.recovery_s, faults
        )

    async def _read_as_a_client(
        self, dead: Sequence[str], lines: list[dict[str, Any]]
    ) -> list[str]:
        """What is wrong with the runs as `penstock.client` shows them."""
        faults = []
        async with self.client() as client:
            await client.refresh()
            for trace_id in self.submitted:
                run = await client.read(trace_id)
                topics = sorted(entry.topic for entry in run.entries)
                if trace_id in dead:
                    if run.state != DEAD or len(run.dead_letters) != 1:
                        faults.append(
                            f"run {trace_id} is {run.state}, {len(run.dead_letters)} letters"
                        )
                elif run.state != DONE or topics != sorted(TOPICS):
                    faults.append(f"run {trace_id} is {run.state} with events on {topics}")
                else:
                    faults += check_records(trace_id, client.index.steps(trace_id), lines)
        return faults


class Submitter:
    """A process that begins runs, and says which have begun."""

    def __init__(self, env: dict[str, str], folder: pathlib.Path, ids: list[str]) -> None:
        self.output = folder / f"submitter-{time.time_ns()}.txt"
        errors = self.output.with_suffix(".errors")
        with self.output.open("wb") as out, errors.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.submitting"],
                env=env, cwd=programs.ROOT, stdin=subprocess.PIPE, stdout=out, stderr=err,
            )  # fmt: skip
        assert self.process.stdin is not None
        with self.process.stdin as ids_in:
            ids_in.write("\n".join(ids).encode())

    def wait_for(self, count: int) -> None:
        """So many runs have begun."""

        def begun() -> bool:
            errors = self.output.with_suffix(".errors").read_text()
            assert self.process.poll() in (None, 0), f"the submitter ended:\n{errors}"
            return self.output.read_bytes().count(b"\n") >= count

        wait_until(begun, f"{count} runs submitted")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
