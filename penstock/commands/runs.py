"""Commands about runs: begin one, follow it, read it."""

import asyncio
import contextlib
import pathlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec

from penstock.client import LOOK_S, Client
from penstock.commands.building import BuildProgress
from penstock.commands.command import Context
from penstock.commands.printing import put, put_json, say
from penstock.commands.watching import watching
from penstock.commands.worker_here import WorkerHere
from penstock.conditions import Condition
from penstock.errors import PenstockError, SettingsError
from penstock.models import LABEL, wrote_offline
from penstock.record.events import as_text, is_trace_id
from penstock.record.values import read_json
from penstock.runs.runs import CANCELLED, DEAD, DONE, Run
from penstock.worker.health import what_is_down, who_has_other_files, who_works_elsewhere

#: Seconds that `cancel` waits for the worker.
CANCEL_S = 10.0
#: Seconds between looks at what a run waits for.
LOOK_AROUND_S = 1.0


def run_as_dict(run: Run) -> dict[str, Any]:
    """The run for programs: its state, its events in order, its dead letters."""
    return {
        "trace_id": run.trace_id,
        "pipeline": run.pipeline,
        "state": run.state,
        "answer": run.answer,
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
        "dead_letters": msgspec.to_builtins(run.dead_letters),
    }


async def follow(client: Client, trace_id: str, quiet: bool = False) -> Run:
    """The run, once it is over, with a line on the screen for each stage on the way."""
    # Rich is for those who look on: a command that only begins runs has no use for it.
    from penstock.commands.screens import progress, step_line

    async for entry in client.follow(trace_id):
        # What an agent tells of itself is no step.
        is_telemetry = entry.event.usage is None and entry.event.agent is not None
        if entry.event.parent_id is not None and not quiet and not is_telemetry:
            progress.print(step_line(entry))
    return await client.read(trace_id)


@contextlib.asynccontextmanager
async def saying_what_is_waited_for(context: Context) -> AsyncIterator[None]:
    """Inside, a line says what the workers wait for, when that begins and when it ends."""

    async def look() -> None:
        said: dict[str, Condition] = {}
        while True:
            now = await asyncio.to_thread(
                what_is_down, context.settings.data, context.settings.app_id
            )
            for key in now.keys() - said.keys():
                since = time.strftime("%H:%M:%S", time.localtime(now[key].since or time.time()))
                say(f"waits for {now[key].what}: {now[key].reason} (since {since})", style="yellow")
            for key in said.keys() - now.keys():
                say(f"{said[key].what} is there again", style="yellow")
            said = now
            await asyncio.sleep(LOOK_AROUND_S)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking


def show_dead_letters(run: Run) -> None:
    for dead_letter in run.dead_letters:
        say(f"{dead_letter.stage}: {dead_letter.cause}: {dead_letter.message}", style="red")
    say(f"The run ended as a dead letter. All of it: penstock trace {run.trace_id}", style="red")


async def show_begun(
    context: Context, client: Client, pipeline: str, trace_ids: list[str], wait: bool
) -> int:
    """The new runs' trace ids, or with `wait` what they make; the command's exit code."""
    if client.worker_running():
        if elsewhere := _elsewhere(context, pipeline):
            if wait:
                raise SettingsError(f"The runs have begun, and wait: {elsewhere}")
            say(f"The runs wait: {elsewhere}", style="yellow")
        else:
            say_who_has_other_files(context)
    else:
        say(
            "No worker is running: the runs wait. Start one with: penstock worker",
            style="yellow",
        )
    code = 0
    for trace_id in trace_ids:
        if not wait:
            put_json({"trace_id": trace_id}) if context.as_json else put(trace_id)
            continue
        if not context.as_json:
            say(f"run {trace_id}")
        async with watching(context, trace_id), saying_what_is_waited_for(context):
            run = await follow(client, trace_id, quiet=context.as_json)
        code = max(code, show_run(run, context.as_json))
    return code


def show_run(run: Run, as_json: bool) -> int:
    """A run that is over: its last part, or why it died; the command's exit code."""
    if as_json:
        put_json(run_as_dict(run))
    elif run.state == DEAD:
        show_dead_letters(run)
    elif run.state == CANCELLED:
        say(f"The run {run.trace_id} was cancelled.")
    else:
        show_answer(run)
    return 0 if run.state == DONE else 1


def show_answer(run: Run) -> None:
    """What the run was for, on stdout, labelled when no model wrote it, and what was made of that
    since; or why there is nothing of it."""
    result = run.result
    title = run.pipeline.title()
    if result is not None:
        put(f"✅ Final {title} Output for Trace ID {run.trace_id}:")
        usage = result.entry.event.usage
        if usage is not None and wrote_offline(usage.model):
            put(f"({LABEL})")
        put("")
        put(as_text(result.value))
        for one in run.comments:
            put(f"\n{one.name}:\n{as_text(one.value)}")
    else:
        named = run.chain.result if run.chain is not None else None
        made = f", and made no '{named}'" if named else "; no topic has what it made"
        put(f"✅ {title} is done for Trace ID {run.trace_id}{made}.")
    for end in run.ends:
        (say if result is not None else put)(f"{end}.")
    if run.is_cut:
        say(f"Done, cut off: see penstock trace {run.trace_id}", style="yellow")


async def begin(context: Context, pipeline: str, text: str | None) -> int:
    """Begin a run and follow it to its end; the command's exit code."""
    context.project.require_sound()
    chain = context.project.chain(pipeline)
    text = text or (chain.seed or {}).get(chain.entry_of(chain.seed or ()))
    if not text:
        raise SettingsError(f"say what to begin with: penstock run {pipeline} TEXT")
    client, worker = context.client(), WorkerHere(context, pipeline)
    async with client, watching(context) as watch, worker:
        if client.worker_running() and (elsewhere := _elsewhere(context, pipeline)):
            raise SettingsError(elsewhere[0].upper() + elsewhere[1:])
        if client.worker_running():
            say_who_has_other_files(context)
        await worker.work_if_nobody_does(client)
        trace_id = watch.trace_id = await client.submit(pipeline, {chain.entry: text})
        if not context.as_json:
            say(f"{pipeline}: {as_text(text)}  (run {trace_id})")
        following = asyncio.ensure_future(follow(client, trace_id, quiet=context.as_json))
        try:
            while not (await asyncio.wait([following], timeout=LOOK_S))[0]:
                worker.complain_of_locks(trace_id)
                # The worker that was there may have been another such command, now over.
                await worker.work_if_nobody_does(client)
            run = following.result()
        finally:
            following.cancel()
    return show_run(run, context.as_json)


def say_who_has_other_files(context: Context) -> None:
    """A sentence, when the worker that is there does not have the project as it is now."""
    settings = context.settings
    other = who_has_other_files(settings.data, settings.app_id, context.project.files)
    if other:
        say(other[0].upper() + other[1:], style="yellow")


def _elsewhere(context: Context, pipeline: str) -> str:
    """A sentence, when the workers that are there do the work of other pipelines."""
    return who_works_elsewhere(context.settings.data, context.settings.app_id, pipeline)


async def story(context: Context, premise: str | None) -> int:
    return await begin(context, "story", premise)


async def run(context: Context, pipeline: str, text: str | None) -> int:
    return await begin(context, pipeline, text)


async def submit(
    context: Context,
    pipeline: str,
    text: str | None,
    premise: str | None,
    parts: tuple[str, ...],
    tags: tuple[str, ...],
    file: str | None,
    trace_id: str | None,
    wait: bool,
) -> int:
    context.project.require_sound()
    chain = context.project.chain(pipeline)
    runs: list[Begun] = []
    if file is None:
        given: dict[str, Any] = {}
        if text is not None:
            given[chain.entry] = text
        if premise is not None:
            given["premise"] = premise
        given |= read_pairs("--part", parts)
        runs = [(given, trace_id, read_pairs("--tag", tags))]
    elif tags:
        raise SettingsError('--tag: with --file, a line has its own: {"tags": {"customer": "42"}}')
    async with context.client() as client:
        if file is not None:
            runs = read_runs(file, lambda run: client.check(pipeline, *run))
        trace_ids = await client.submit_many(pipeline, runs)
        return await show_begun(context, client, pipeline, trace_ids, wait)


#: What a run begins with, its trace id when it has one of its own, and its tags.
Begun = tuple[dict[str, Any], str | None, dict[str, str]]


def read_pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """What was given with an `option` NAME=VALUE. Raises `SettingsError`."""
    pairs = [one.partition("=") for one in given]
    for one, (_, sign, _) in zip(given, pairs, strict=True):
        if not sign:
            raise SettingsError(f"{option} {one!r}: expected NAME=VALUE")
    return {name: value for name, _, value in pairs}


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
            parts = read_json(line)
        except ValueError as exc:
            raise SettingsError(f"{file}:{number}: not JSON: {exc}") from exc
        if not isinstance(parts, dict):
            raise SettingsError(f'{file}:{number}: expected an object like {{"premise": "..."}}')
        trace_id = parts.pop("trace_id", None)
        if trace_id is not None and not isinstance(trace_id, str):
            raise SettingsError(f"{file}:{number}: trace_id is {trace_id!r}: expected a UUID")
        tags = parts.pop("tags", {})
        if not isinstance(tags, dict):
            raise SettingsError(f"{file}:{number}: tags is {tags!r}: expected an object of texts")
        try:
            check((parts, trace_id, tags))
        except PenstockError as exc:
            raise SettingsError(f"{file}:{number}: {exc.message}") from exc
        runs.append((parts, trace_id, tags))
    if not runs:
        raise SettingsError(f"--file {file}: there is no run in it")
    return runs


async def resolved(client: Client, trace_id: str) -> str:
    """The whole id of the run that `trace_id` is the beginning of. Raises `NotFound`."""
    if not is_trace_id(trace_id):
        await client.refresh(BuildProgress())
    return await asyncio.to_thread(client.index.resolve, trace_id)


async def rerun(context: Context, trace_id: str, topic: str, wait: bool) -> int:
    async with context.client() as client:
        trace_id = await resolved(client, trace_id)
        fork = await client.rerun(trace_id, topic)
        pipeline = (await client.read(fork)).pipeline
        return await show_begun(context, client, pipeline, [fork], wait)


async def cancel(context: Context, trace_id: str | None, topic: str | None) -> None:
    if (trace_id is None) == (topic is None):
        raise SettingsError("which run? Give its trace id, or --topic: one of the two")
    async with context.client() as client:
        if topic is not None:
            for ended in await client.cancel_unread(topic):
                said = {"trace_id": ended, "state": CANCELLED}
                put_json(said) if context.as_json else put(f"run {ended} is cancelled")
            return
        assert trace_id is not None
        run = await client.cancel(await resolved(client, trace_id))
        there = client.worker_running()
        if there and run.state != CANCELLED:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CANCEL_S):
                    run = await client.wait(run.trace_id)
    if context.as_json:
        put_json({"trace_id": run.trace_id, "state": run.state})
    elif run.state == CANCELLED:
        put(f"run {run.trace_id} is cancelled")
    else:
        put(f"run {run.trace_id} ends when " + ("a worker sees it" if there else "one starts"))


async def trace(context: Context, trace_id: str, full: bool) -> None:
    async with context.client() as client:
        await client.refresh(BuildProgress())
        whole = await asyncio.to_thread(client.index.resolve, trace_id)
        run = await asyncio.to_thread(client.index.read, whole)
        steps = await asyncio.to_thread(client.index.steps, whole)
    if context.as_json:
        put_json({**run_as_dict(run), "steps": msgspec.to_builtins(steps)})
    else:
        from penstock.commands.screens import output, run_tree

        output.print(run_tree(run, steps, full=full))
