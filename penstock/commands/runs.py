"""Commands about runs: begin one, follow it, read it."""

import asyncio
import contextlib
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import msgspec
from faust.cli.base import argument, option

from penstock.client import LOOK_S, Client
from penstock.commands.command import Command, json_option
from penstock.commands.screens import output, progress, put, run_tree, say, show_answer, step_line
from penstock.commands.worker_here import worker_here
from penstock.errors import ModelLocked, PenstockError, SettingsError
from penstock.record.events import as_text
from penstock.runs.runs import CANCELLED, DEAD, DONE, Run
from penstock.worker.health import who_works_elsewhere

#: Seconds that `cancel` waits for the worker.
CANCEL_S = 10.0


def run_as_dict(run: Run) -> dict[str, Any]:
    """The run for programs: its state, its events in order, its dead letters."""
    return {
        "trace_id": run.trace_id,
        "pipeline": run.pipeline,
        "state": run.state,
        "events": [
            {
                "topic": entry.topic,
                "partition": entry.partition,
                "offset": entry.offset,
                "waits_for": entry.waits_for,
                **msgspec.to_builtins(entry.event),
            }
            for entry in run.entries
        ],
        "dead_letters": msgspec.to_builtins(run.letters),
    }


async def follow(client: Client, trace_id: str, quiet: bool = False) -> Run:
    """The run, once it is over, with a line on the screen for each stage on the way."""
    async for entry in client.follow(trace_id):
        # What an agent tells of itself is no step.
        tells = entry.event.usage is None and entry.event.agent is not None
        if entry.event.parent_id is not None and not quiet and not tells:
            progress.print(step_line(entry))
    return await client.read(trace_id)


def show_letters(run: Run) -> None:
    for letter in run.letters:
        say(f"{letter.stage}: {letter.cause}: {letter.message}", style="red")
    say(f"The run ended as a dead letter. All of it: penstock trace {run.trace_id}", style="red")


async def show_begun(
    client: Client, pipeline: str, trace_ids: list[str], wait: bool, as_json: bool
) -> int:
    """The new runs' trace ids, or with `wait` what they make; the command's exit code."""
    if client.worker_running():
        settings = client.settings
        if elsewhere := who_works_elsewhere(settings.data, settings.app_id, pipeline):
            if wait:
                raise SettingsError(f"The runs have begun, and wait: {elsewhere}")
            say(f"The runs wait: {elsewhere}", style="yellow")
    else:
        say(
            "No worker is running: the runs wait. Start one with: penstock worker",
            style="yellow",
        )
    code = 0
    for trace_id in trace_ids:
        if not wait:
            put(json.dumps({"trace_id": trace_id}) if as_json else trace_id)
            continue
        if not as_json:
            say(f"run {trace_id}")
        run = await follow(client, trace_id, quiet=as_json)
        code = max(code, show_run(run, as_json))
    return code


def show_run(run: Run, as_json: bool) -> int:
    """A run that is over: its last part, or why it died; the command's exit code."""
    if as_json:
        put(json.dumps(run_as_dict(run), ensure_ascii=False))
    elif run.state == DEAD:
        show_letters(run)
    elif run.state == CANCELLED:
        say(f"The run {run.trace_id} was cancelled.")
    else:
        show_answer(run)
    return 0 if run.state == DONE else 1


class _Begin(Command):
    """Begin a run and follow it to its end."""

    abstract = True

    async def begin(self, pipeline: str, text: str | None, as_json: bool) -> int:
        self.app.project.require_sound()
        chain = self.app.project.chain(pipeline)
        text = text or (chain.seed or {}).get(chain.entry_of(chain.seed or ()))
        if not text:
            raise SettingsError(f"say what to begin with: penstock run {pipeline} TEXT")
        settings = self.app.settings
        client = Client(settings, self.app.project)
        async with client, worker_here(self.app, pipeline) as work_if_nobody_does:
            if client.worker_running() and (
                elsewhere := who_works_elsewhere(settings.data, settings.app_id, pipeline)
            ):
                raise SettingsError(elsewhere[0].upper() + elsewhere[1:])
            await work_if_nobody_does(client)
            trace_id = await client.submit(pipeline, {chain.entry: text})
            if not as_json:
                say(f"{pipeline}: {as_text(text)}  (run {trace_id})")
            following = asyncio.ensure_future(follow(client, trace_id, quiet=as_json))
            try:
                while not (await asyncio.wait([following], timeout=LOOK_S))[0]:
                    self._complain_of_locks(trace_id)
                    # The worker that was there may have been another such command, now over.
                    await work_if_nobody_does(client)
                run = following.result()
            finally:
                following.cancel()
        return show_run(run, as_json)

    def _complain_of_locks(self, trace_id: str) -> None:
        """Raises what keeps the run from going on when only a person can mend that: it stays where
        it is."""
        for outage in self.app.outages:
            if isinstance(outage.error, ModelLocked):
                raise ModelLocked(
                    f"{outage.error.message}. The run {trace_id} waits: when it is mended,"
                    " a worker goes on with it (penstock worker)."
                )


class story(_Begin):
    """Write a story from a premise, now, and print it."""

    options = [argument("premise", required=False), json_option]

    async def run(self, premise: str | None, as_json: bool) -> int:  # type: ignore[override]
        return await self.begin("story", premise, self.wants_json(as_json))


class run(_Begin):
    """Begin a run of a pipeline, now, and print what it makes."""

    options = [argument("pipeline"), argument("text", required=False), json_option]

    async def run(self, pipeline: str, text: str | None, as_json: bool) -> int:  # type: ignore[override]
        return await self.begin(pipeline, text, self.wants_json(as_json))


class submit(Command):
    """Put a run, or a file of runs, on for the worker."""

    options = [
        argument("pipeline"),
        argument("text", required=False),
        option("--premise", default=None, show_default=False, help="The premise of a story."),
        option(
            "--part",
            "parts",
            multiple=True,
            show_default=False,
            metavar="NAME=VALUE",
            help="What the run begins with, by name; may be repeated.",
        ),
        option(
            "--file",
            "file",
            default=None,
            show_default=False,
            metavar="RUNS.JSONL",
            help="One run a line: {\"premise\": ...}, with an optional trace_id. '-' is stdin.",
        ),
        option(
            "--trace-id",
            default=None,
            show_default=False,
            help="A UUID of your own; one that was used before begins nothing.",
        ),
        option("--wait", is_flag=True, show_default=False, help="Follow the runs to their end."),
        json_option,
    ]

    async def run(  # type: ignore[override]
        self,
        pipeline: str,
        text: str | None,
        premise: str | None,
        parts: tuple[str, ...],
        file: str | None,
        trace_id: str | None,
        wait: bool,
        as_json: bool,
    ) -> int:
        self.app.project.require_sound()
        chain = self.app.project.chain(pipeline)
        as_json = self.wants_json(as_json)
        runs: list[Begun] = []
        if file is None:
            given: dict[str, Any] = {}
            if text is not None:
                given[chain.entry] = text
            if premise is not None:
                given["premise"] = premise
            for part in parts:
                name, sign, value = part.partition("=")
                if not sign:
                    raise SettingsError(f"--part {part!r}: expected NAME=VALUE")
                given[name] = value
            runs = [(given, trace_id)]
        async with Client(self.app.settings, self.app.project) as client:
            if file is not None:
                runs = read_runs(file, lambda run: client.check(pipeline, *run))
            trace_ids = await client.submit_many(pipeline, runs)
            return await show_begun(client, pipeline, trace_ids, wait, as_json)


#: What a run begins with, and its trace id when it has one of its own.
Begun = tuple[dict[str, Any], str | None]


def read_runs(file: str, check: Callable[[Begun], object]) -> list[Begun]:
    """The runs of a JSON lines file. Raises `SettingsError` that names the line, also for what
    `check` raises about a run."""
    try:
        text = sys.stdin.read() if file == "-" else pathlib.Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"--file {file}: {exc}") from exc
    runs: list[Begun] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            parts = json.loads(line)
        except ValueError as exc:
            raise SettingsError(f"{file}:{number}: not JSON: {exc}") from exc
        if not isinstance(parts, dict):
            raise SettingsError(f'{file}:{number}: expected an object like {{"premise": "..."}}')
        trace_id = parts.pop("trace_id", None)
        if trace_id is not None and not isinstance(trace_id, str):
            raise SettingsError(f"{file}:{number}: trace_id is {trace_id!r}: expected a UUID")
        try:
            check((parts, trace_id))
        except PenstockError as exc:
            raise SettingsError(f"{file}:{number}: {exc.message}") from exc
        runs.append((parts, trace_id))
    if not runs:
        raise SettingsError(f"--file {file}: there is no run in it")
    return runs


class rerun(Command):
    """Run again from a step on, as a new run."""

    options = [
        argument("trace_id"),
        option(
            "--from",
            "topic",
            required=True,
            show_default=False,
            metavar="TOPIC",
            help="The topic whose event the new run goes on from.",
        ),
        option("--wait", is_flag=True, show_default=False, help="Follow the run to its end."),
        json_option,
    ]

    async def run(self, trace_id: str, topic: str, wait: bool, as_json: bool) -> int:  # type: ignore[override]
        as_json = self.wants_json(as_json)
        async with Client(self.app.settings, self.app.project) as client:
            fork = await client.rerun(trace_id, topic)
            pipeline = (await client.read(fork)).pipeline
            return await show_begun(client, pipeline, [fork], wait, as_json)


class cancel(Command):
    """End a run where it is: its calls are cut off, and no worker takes it up again."""

    options = [argument("trace_id"), json_option]

    async def run(self, trace_id: str, as_json: bool) -> None:  # type: ignore[override]
        async with Client(self.app.settings, self.app.project) as client:
            run = await client.cancel(trace_id)
            there = client.worker_running()
            if there:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CANCEL_S):
                        run = await client.wait(run.trace_id)
        if self.wants_json(as_json):
            put(json.dumps({"trace_id": run.trace_id, "state": run.state}))
        elif run.state == CANCELLED:
            put(f"run {run.trace_id} is cancelled")
        else:
            put(f"run {run.trace_id} ends when " + ("a worker sees it" if there else "one starts"))


class trace(Command):
    """Draw a run as a tree: times, agents, tokens."""

    options = [argument("trace_id"), json_option]

    async def run(self, trace_id: str, as_json: bool) -> None:  # type: ignore[override]
        async with Client(self.app.settings, self.app.project) as client:
            run = await client.read(trace_id)
        if self.wants_json(as_json):
            put(json.dumps(run_as_dict(run), ensure_ascii=False))
        else:
            output.print(run_tree(run))
