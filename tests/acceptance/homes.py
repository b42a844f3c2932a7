"""A home: a folder of one's own for data, logs and settings, where the real programs are run."""

import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
import json
import pathlib
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from penstock.client import Client
from penstock.project.project import read_project
from penstock.record import events
from penstock.record.events import Event
from penstock.runs.runs import DONE, Run
from penstock.settings import Settings
from tests import programs
from tests.programs import PATIENCE_S, PENSTOCK, ROOT, Program, Worker

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TRACEBACK = "Traceback (most recent call last)"
LABEL = "No model wrote this"
K = TypeVar("K")
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Screen:
    """What a program showed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    def ended(self, code: int = 0) -> "Screen":
        """The program ended with exit code `code`, and showed no traceback."""
        assert TRACEBACK not in self.text, self.text
        assert self.code == code, f"exit code {self.code}:\n{self.text}"
        return self

    def refused(self) -> str:
        """What the program said when it ended with exit code 1; stdout was left alone."""
        assert self.ended(1).out == ""
        return self.err

    def json(self) -> Any:
        return json.loads(self.out)

    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class Home:
    """A machine of its own, as far as Penstock can tell."""

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        cwd: pathlib.Path = ROOT,
        program: Sequence[str] = PENSTOCK,
        **settings: str,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.cwd = cwd
        self.program = tuple(program)
        self.env = programs.environment(folder, **settings)
        self.data = pathlib.Path(self.env["PENSTOCK_DATA"])
        self.database = self.data / "penstock.db"
        self.logs = pathlib.Path(self.env["PENSTOCK_LOGS"])

    # -- programs

    def run(
        self,
        *arguments: str,
        code: int = 0,
        stdin: str = "",
        program: Sequence[str] | None = None,
        **settings: str,
    ) -> Screen:
        """`penstock ARGUMENTS`, run to its end with exit code `code` and without a traceback."""
        return self.show(*arguments, stdin=stdin, program=program, **settings).ended(code)

    def show(
        self,
        *arguments: str,
        stdin: str = "",
        program: Sequence[str] | None = None,
        **settings: str,
    ) -> Screen:
        """`penstock ARGUMENTS`, run to its end, whatever that is."""
        done = programs.penstock(
            *arguments,
            env=self.env | settings,
            cwd=self.cwd,
            program=program or self.program,
            stdin=stdin,
        )
        return Screen(done.returncode, done.stdout, done.stderr)

    def fails(self, *arguments: str) -> str:
        """What `penstock ARGUMENTS` says when it ends with exit code 1."""
        return self.show(*arguments).refused()

    def start(self, *arguments: str, **settings: str) -> Program:
        """`penstock ARGUMENTS`, under way."""
        return Program([*self.program, *arguments], env=self.env | settings, cwd=self.cwd)

    @contextlib.contextmanager
    def worker(self, program: Sequence[str] | None = None, **settings: str) -> Iterator[Worker]:
        """A worker that is ready, and gone afterwards whatever happens. It never shows a
        traceback."""
        command = [*(program or self.program), "worker", "-l", "info"]
        running = Worker(
            self.env | settings,
            self.folder,
            cwd=self.cwd,
            python=command[0],
            command=tuple(command[1:]),
        )
        try:
            yield running.ready()
        finally:
            running.kill()
        assert TRACEBACK not in running.text(), running.text()

    # -- what is there

    def submit(self, *arguments: str, stdin: str = "") -> list[str]:
        """The trace ids of the runs that `penstock submit story ARGUMENTS` has begun."""
        shown = self.run("submit", "story", "--json", *arguments, stdin=stdin)
        return [line["trace_id"] for line in shown.json_lines()]

    def submit_all(self, premises: Iterable[str]) -> list[str]:
        """Begun with one command: each takes most of a second."""
        lines = [json.dumps({"premise": premise}) + "\n" for premise in premises]
        return self.submit("--file", "-", stdin="".join(lines))

    def trace(self, trace_id: str) -> dict[str, Any]:
        """The run, as `penstock trace --json` has it."""
        run: dict[str, Any] = self.run("trace", trace_id, "--json").json()
        return run

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """Runs are read from this process: a command for each look would take a second."""
        project = read_project(pathlib.Path(self.env.get("PENSTOCK_PROJECT", self.cwd)))
        async with Client(Settings.read(self.env), project) as client:
            yield client

    def read(self, *trace_ids: str) -> list[Run]:
        """The runs as they are now."""

        async def read() -> list[Run]:
            async with self.client() as client:
                return [await client.read(trace_id) for trace_id in trace_ids]

        return asyncio.run(read())

    def wait_for(
        self, *trace_ids: str, state: str = DONE, limit_s: float = PATIENCE_S
    ) -> list[Run]:
        """The runs, which are over, with `state`."""

        async def wait() -> list[Run]:
            async with self.client() as client, asyncio.timeout(limit_s):
                return [await client.wait(trace_id) for trace_id in trace_ids]

        try:
            runs = asyncio.run(wait())
        except TimeoutError:
            found = collections.Counter(run.state for run in self.read(*trace_ids))
            raise AssertionError(f"waited {limit_s:g} s; the runs are {dict(found)}") from None
        for run in runs:
            assert run.state == state, run.dead_letters or run.state
        return runs

    def begun(self, topic: str = "premise") -> list[Event]:
        """The first events of all runs, in no order."""

        async def read() -> list[Event]:
            async with self.client() as client:
                found = client.broker.find(topic, None)
                return [events.load(record.value) for record in found]

        return asyncio.run(read())

    def dead_letters(self) -> list[dict[str, Any]]:
        """The dead letters, as `penstock dead-letters --json` has them."""
        return self.run("dead-letters", "--json").json_lines()

    def logged(self) -> list[dict[str, Any]]:
        """Every line of the event log, the oldest first."""
        name = "broker_interactions.json"
        files = sorted(
            self.logs.glob(f"{name}*"),
            key=lambda file: -int(file.name.removeprefix(name).strip(".") or 0),
        )
        return [line for file in files for line in programs.read_json_lines(file)]

    def files(self) -> Iterator[pathlib.Path]:
        """Every file under data/ and logs/."""
        for folder in (self.data, self.logs):
            yield from (file for file in folder.rglob("*") if file.is_file())


def side_by_side(cases: Iterable[K], shown: Callable[[K], T]) -> dict[K, T]:
    """What `shown` gives for each case, two at a time: a command is most of a second of a core."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return {case: made.result() for case, made in [(c, pool.submit(shown, c)) for c in cases]}


def copy_project(folder: pathlib.Path) -> pathlib.Path:
    """`folder` is a copy of the story's project, to be spoiled."""
    others = shutil.ignore_patterns("jobs.yaml", "mesh.yaml")
    for name in ("agents", "topics"):
        shutil.copytree(ROOT / name, folder / name, ignore=others)
    return folder


def finals(text: str) -> list[str]:
    """The trace ids of the finished runs that a console shows, in order."""
    return re.findall(rf"^✅ Final \S+ Output for Trace ID ({UUID.pattern}):$", text, re.MULTILINE)
