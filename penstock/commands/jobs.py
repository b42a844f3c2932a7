"""Commands about jobs: push one, look at it, list them, cancel one."""

import contextlib
import dataclasses
import pathlib
from typing import Any

from penstock.commands.command import Context
from penstock.commands.printing import put, put_json, say
from penstock.commands.runs import CANCEL_S
from penstock.commands.watching import watching
from penstock.jobs.status import REFUSED, JobStatus
from penstock.models import LABEL, wrote_offline
from penstock.record.events import as_text
from penstock.record.jobs import trace_id_of
from penstock.runs.runs import DONE, RUNNING


async def push_job(
    context: Context,
    name: str,
    system: str,
    query: str,
    about: str | None,
    output_file: str,
    priority: str,
    wait: bool,
) -> int:
    params = {"query": query, "output_file": output_file}
    if about is not None:
        params["context"] = about
    async with context.client() as client:
        job = {"system_prompt": system, "params": params}
        pushed = await client.push_job(name, job, priority)
        if not client.worker_running():
            say(
                "No worker is running: the job waits. Start one with: penstock worker",
                style="yellow",
            )
        if wait:
            async with watching(context, pushed.trace_id):
                status = await client.wait_job(name, pushed.id)
            return show(status, context.settings.data, context.as_json)
    if context.as_json:
        summary = {"name": name, "trace_id": pushed.trace_id, "id": pushed.id}
        put_json({**summary, "priority": priority, "again": pushed.again})
    elif pushed.again:
        put(f"job {name} was pushed before, and is done once (run {pushed.trace_id})")
    else:
        put(f"pushed job {name} (run {pushed.trace_id})")
    return 0


async def job_status(context: Context, name: str, wait: bool) -> int:
    async with context.client() as client:
        if wait:
            async with watching(context, trace_id_of(name)):
                status = await client.wait_job(name)
        else:
            status = await client.job(name)
    return show(status, context.settings.data, context.as_json)


async def jobs(context: Context) -> None:
    async with context.client() as client:
        found = await client.jobs()
    if context.as_json:
        for one in found:
            put_json(as_dict(one))
        return
    if not found:
        say("There are no jobs.")
    for one in found:
        refused = sum(other.state == REFUSED for other in one.others)
        more = f"  ({refused} refused under this name)" if refused else ""
        put(f"{one.state:<9}  {one.priority:<4}  {one.name}  {summary(one)}{more}")


async def cancel_job(context: Context, name: str) -> None:
    async with context.client() as client:
        await client.cancel_job(name)
        there = client.worker_running()
        status = await client.job(name)
        if there:
            with contextlib.suppress(TimeoutError):
                status = await client.wait_job(name, timeout_s=CANCEL_S)
    if context.as_json:
        put_json(as_dict(status))
    elif status.state != RUNNING:
        put(f"job {name} is {status.state}")
    else:
        put(f"job {name} ends when " + ("a worker sees it" if there else "one starts"))


def as_dict(status: JobStatus) -> dict[str, Any]:
    """The status for programs."""
    return dataclasses.asdict(status)


def summary(status: JobStatus) -> str:
    """What there is to say beside the state: the file, or why there is none."""
    return status.file or status.error or status.output_file


def show(status: JobStatus, data: pathlib.Path, as_json: bool) -> int:
    """The status on the screen; 0 while it may still be done, or is."""
    if as_json:
        put_json(as_dict(status))
    else:
        put(f"{status.name}: {status.state}")
        if status.file:
            put(
                f"  file {data / status.file}"
                + (f"  ({LABEL})" if wrote_offline(status.model) else "")
            )
            put(as_text(status.answer))
        elif status.error:
            put(f"  {status.error}")
        put(f"  priority {status.priority}, run {status.trace_id}")
        for other in status.others:
            put(f"  another job under this name: {other.state}. {summary(other)}")
    return 0 if status.state in (DONE, RUNNING) else 1
