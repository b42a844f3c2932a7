"""The command `stress`: many tasks at once for the mesh, and what becomes of them."""

import asyncio
import collections
import dataclasses
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from rich.table import Table
from rich.text import Text

from penstock.client import LOOK_S, Client
from penstock.commands.command import Context
from penstock.commands.printing import put_json, say
from penstock.commands.runs import Begun
from penstock.commands.screens import output, progress
from penstock.commands.worker_process import WorkerProcess
from penstock.errors import ChainError, SettingsError
from penstock.models.offline.tasks import brainstorm
from penstock.project.chains import Chain, GovernorSpec
from penstock.runs.runs import DEAD, DONE, RUNNING
from penstock.worker.governor import ACTIVE, THROTTLED, judge

PIPELINE, TOPIC = "mesh", "ai_topic"
#: Seconds between two lines while nothing changes but numbers, and while nothing changes at all.
LINE_S, QUIET_S = 0.25, 2.0
#: Characters of the bar, and runs that are looked at in one go.
WIDTH, AT_ONCE = 40, 25


@dataclasses.dataclass
class Course:
    """What was seen of one stress run, from the tasks' submission to the end of the last."""

    tasks: list[str]
    began: float = dataclasses.field(default_factory=time.monotonic)
    open: collections.deque[str] = dataclasses.field(default_factory=collections.deque)
    states: list[str] = dataclasses.field(default_factory=list)
    highest: int = 0
    lag: int = 0
    throttled_s: float = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def finished(self) -> int:
        return len(self.tasks) - len(self.open)

    def see(self, lag: int, state: str, since_s: float) -> bool:
        """Takes note of a look; whether the state has changed."""
        self.lag, self.highest = lag, max(self.highest, lag)
        if self.states and self.states[-1] == THROTTLED:
            self.throttled_s += since_s
        if self.states and self.states[-1] == state:
            return False
        self.states.append(state)
        return True


async def stress(context: Context, count: int) -> int:
    context.project.require_sound()
    chain = context.project.chain(PIPELINE)
    if chain.governor is None or chain.governor.topic != TOPIC or TOPIC not in chain.entries:
        raise ChainError(
            f"{chain.file}: stress needs '{TOPIC}' as an entry, and a governor that watches it"
        )
    tasks: list[Begun] = [
        ({TOPIC: brainstorm("", f"stress {number}")}, str(uuid.uuid4()), {})
        for number in range(count)
    ]
    client = context.client()
    # The timer of the pipeline is on, so that there is a producer to hold back.
    worker = WorkerProcess({"PENSTOCK_START": PIPELINE, "PENSTOCK_SEED": "0"})
    async with client:
        with worker:
            theirs = client.worker_running()
            if not theirs:
                await _start(worker, client)
            whose = "the worker that is running" if theirs else "a worker of its own"
            say(f"stress: {count} tasks for '{PIPELINE}', all at once on '{TOPIC}', by {whose}")
            course = Course([trace_id for _, trace_id, _ in tasks if trace_id])
            await client.submit_many(PIPELINE, tasks)
            course.open.extend(course.tasks)
            async for changed in watch(client, chain, chain.governor, course):
                show(course, chain.governor, changed)
                if worker.exit_code is not None and course.open:
                    say(f"The worker has ended ({worker.exit_code}); another goes on.", "red")
                    await _start(worker, client)
        found = await asyncio.to_thread(sum_up, client, course)
    if context.as_json:
        put_json(found)
    else:
        output.print(table_of(found))
    return 0 if found["finished"] == count and not found["lost"] + found["repeated"] else 1


async def _start(worker: WorkerProcess, client: Client) -> None:
    worker.start()
    while not client.worker_running():
        if worker.exit_code is not None:
            raise SettingsError("the worker did not start; what it said stands above")
        await asyncio.sleep(LOOK_S)


async def watch(
    client: Client, chain: Chain, governor: GovernorSpec, course: Course
) -> AsyncIterator[bool]:
    """Looks until every task is finished and the lag is down, and gives a turn for each line that
    is worth showing: whether the governor's state has changed."""
    readers = [stage.name for stage in chain.stages if stage.reads == governor.topic]
    looked, shown = time.monotonic(), 0.0
    printed: tuple[int, int] | None = None
    while True:
        lag = max(client.broker.unfinished(name, governor.topic) for name in readers)
        now = time.monotonic()
        changed = course.see(lag, judge(governor, governor.topic, lag).state, now - looked)
        looked = now
        await asyncio.to_thread(_finish, client, course)
        seen = (course.lag, course.finished)
        over = not course.open and course.states[-1] == ACTIVE
        if changed or over or now - shown >= (LINE_S if seen != printed else QUIET_S):
            yield changed
            printed, shown = seen, now
        if over:
            return
        await asyncio.sleep(LOOK_S)


def _finish(client: Client, course: Course) -> None:
    """Runs that are over are no longer open. Those that began first end first, or nearly so."""
    for _ in range(min(AT_ONCE, len(course.open))):
        trace_id = course.open.popleft()
        if client.runs.read(trace_id).state == RUNNING:
            course.open.append(trace_id)


def show(course: Course, governor: GovernorSpec, changed: bool) -> None:
    """One line: the time, the lag and its bar, the state, how many tasks are finished."""
    state = course.states[-1]
    size = max(course.highest, 1)
    bar = "█" * max(round(WIDTH * course.lag / size), int(course.lag > 0))
    mark, style = ("🛑", "bold red") if state == THROTTLED else ("▶", "bold green")
    line = Text.assemble(
        f"{course.seconds:6.1f} s  lag {course.lag:>4} ",
        (f"{bar:<{WIDTH}}", "red" if course.lag > governor.limit else "green"),
        (f" {mark} {state:<9}", style if changed else ""),
        f"  {course.finished:>4} finished",
    )
    progress.print(line)


def sum_up(client: Client, course: Course) -> dict[str, Any]:
    """What became of the tasks, read from the topics."""
    states: collections.Counter[str] = collections.Counter()
    verdicts: collections.Counter[str] = collections.Counter()
    again = repeated = 0
    for trace_id in course.tasks:
        run = client.runs.read(trace_id)
        reviews = [entry.event for entry in run.entries if entry.topic == "ai_reviews"]
        state = run.state if reviews or run.state != DONE else "lost"
        states[state] += 1
        for event in reviews[:1]:
            verdict = event.parts.get("ai_verified_solutions")
            verdicts[str(verdict.get("verdict")) if isinstance(verdict, dict) else "?"] += 1
            again += sum(event.rounds.values())
        repeated += client.runs.made_twice(run)
    return {
        "tasks": len(course.tasks),
        "finished": states[DONE],
        "passed": verdicts["PASS"],
        "failed": verdicts["FAIL"],
        "mended": again,
        "dead_letters": states[DEAD],
        "lost": len(course.tasks) - states[DONE] - states[DEAD],
        "repeated": repeated,
        "highest_lag": course.highest,
        "throttled_s": round(course.throttled_s, 2),
        "seconds": round(course.seconds, 2),
        "states": course.states,
    }


def table_of(found: dict[str, Any]) -> Table:
    rows = [
        ("tasks", found["tasks"]),
        ("finished", found["finished"]),
        ("PASS / FAIL", f"{found['passed']} / {found['failed']}"),
        ("sent back to be mended", found["mended"]),
        ("dead letters", found["dead_letters"]),
        ("lost", found["lost"]),
        ("repeated", found["repeated"]),
        ("highest lag", found["highest_lag"]),
        ("producer held back", f"{found['throttled_s']:.1f} s"),
        ("time", f"{found['seconds']:.1f} s"),
    ]
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in rows:
        good = name in ("lost", "repeated", "dead letters") and value == 0
        bad = name in ("lost", "repeated", "dead letters") and value != 0
        table.add_row(name, str(value), style="green" if good else "bold red" if bad else "")
    return table
