"""Commands that list runs and sum up costs, from the index."""

import asyncio
import dataclasses
import datetime
import re
import sys
import time
from typing import Any

from penstock.client import Client
from penstock.commands.building import BuildProgress
from penstock.commands.command import Context
from penstock.commands.printing import put_json, say
from penstock.commands.runs import read_pairs
from penstock.errors import SettingsError
from penstock.runs.index import Bound, CostRow, Filter, RunRow

#: Seconds of each unit of time.
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
#: Characters of a trace id on a terminal: enough to find the run by.
ID_CHARS = 8

_bound = re.compile(r"(<=|>=|<|>)\s*(\d+(?:\.\d+)?|\.\d+)\s*([smhd]?)")
_ago = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


async def runs(
    context: Context,
    pipeline: str | None,
    state: str | None,
    text: str | None,
    card: str | None,
    model: str | None,
    cost: str | None,
    took: str | None,
    since: str | None,
    tags: tuple[str, ...],
    limit: int,
) -> None:
    now = time.time()
    wanted = Filter(
        pipeline=pipeline,
        state=state,
        text=text,
        card=card,
        model=model,
        cost=None if cost is None else read_cost(cost),
        took=None if took is None else read_took(took),
        since=None if since is None else read_since(since, now),
        tags=read_pairs("--tag", tags),
    )
    async with context.client() as client:
        await client.refresh(BuildProgress())
        found = await asyncio.to_thread(client.index.find, wanted, limit + 1)
        if not found and pipeline is not None:
            context.project.chain(pipeline)  # it may only be misspelt
    more, found = len(found) > limit, found[:limit]
    if context.as_json:
        for row in found:
            put_json(run_as_dict(row, now))
    elif found:
        from penstock.commands.screens import output, table

        output.print(table(RUN_COLUMNS, [_run_cells(row, now) for row in found], "begins with"))
    else:
        say("There is no such run." if wanted != Filter() else "There is no run yet.")
    if more:
        say(f"These are the newest {limit}; more: --limit {limit * 10}")


#: Headings, and whether the cells are numbers.
RUN_COLUMNS = {
    "run": False,
    "pipeline": False,
    "state": False,
    "begins with": False,
    "reached": False,
    "age": True,
    "took": True,
    "tokens": True,
    "cost $": True,
    "retries": True,
    "recalled": True,
}


def _run_cells(row: RunRow, now: float) -> list[str]:
    return [
        row.trace_id[:ID_CHARS] if sys.stdout.isatty() else row.trace_id,
        row.pipeline,
        row.state,
        row.line,
        row.stage,
        duration(now - row.began),
        duration(row.took(now)),
        f"{row.input_tokens:,} + {row.output_tokens:,}" if row.models else "",
        "unknown" if row.cost is None else money(row.cost) if row.models else "",
        str(row.retries or ""),
        str(row.recalled or ""),
    ]


def run_as_dict(row: RunRow, now: float) -> dict[str, Any]:
    """The row for programs; a cost that is not known is null."""
    fields = dataclasses.asdict(row)
    del fields["number"]
    return {**fields, "took": row.took(now)}


async def cost(context: Context, by: str) -> None:
    async with context.client() as client:
        await client.refresh(BuildProgress())
        rows, unpriced = await asyncio.to_thread(_costs, client, by)
    if context.as_json:
        for row in rows:
            put_json(cost_as_dict(row, by))
    elif not rows:
        say("No call of a model is on record" + (" in a run with a tag." if by == "tag" else "."))
    else:
        from penstock.commands.screens import output, table

        output.print(table({by: False} | COST_COLUMNS, [_cost_cells(row) for row in rows]))
    if unpriced:
        say(
            "No price is known for these models, and their calls are in no sum. Add to prices.yaml,"
            " in US dollars:",
            style="yellow",
        )
        for name in unpriced:
            say(f"  {name}: {{input: USD_PER_MILLION, output: USD_PER_MILLION}}")


def _costs(client: Client, by: str) -> tuple[list[CostRow], list[str]]:
    return client.index.costs(by), client.index.unpriced()


COST_COLUMNS = dict.fromkeys(
    ("runs", "calls", "recalled", "tokens in", "cached", "out", "cost $", "saved $"), True
)


def _cost_cells(row: CostRow) -> list[str]:
    counts = (row.runs, row.calls, row.recalled)
    tokens = (row.input_tokens, row.cached_tokens, row.output_tokens)
    known = [money(row.cost)] if row.cost or not row.unpriced else []
    spent = " + ".join(known + ["unknown"] * bool(row.unpriced))
    return [row.name, *(f"{count:,}" for count in counts + tokens), spent, money(row.saved)]


def cost_as_dict(row: CostRow, by: str) -> dict[str, Any]:
    """The row for programs. `cost` is of the calls whose price is known, null if it is of none."""
    fields = dataclasses.asdict(row)
    known = row.cost or not row.unpriced
    return {by: fields.pop("name"), **fields, "cost": row.cost if known else None}


# -- reading options, writing figures


def read_cost(text: str) -> Bound:
    found = _bound.fullmatch(text.strip())
    if found is None or found[3]:
        raise SettingsError(f"--cost {text!r}: expected a limit in US dollars, as in '>0.1'")
    return Bound(found[1], float(found[2]))


def read_took(text: str) -> Bound:
    found = _bound.fullmatch(text.strip())
    if found is None:
        raise SettingsError(f"--took {text!r}: expected a limit of time, as in '>30s' or '<=2m'")
    return Bound(found[1], float(found[2]) * UNITS[found[3] or "s"])


def read_since(text: str, now: float) -> float:
    """The time, in seconds since 1970 UTC, of so long ago or of a date of this machine."""
    if found := _ago.fullmatch(text.strip()):
        return now - float(found[1]) * UNITS[found[2]]
    try:
        return datetime.datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError) as exc:
        raise SettingsError(
            f"--since {text!r}: expected so long ago, as in 30m, 2h or 7d, or a date, as in"
            " 2026-11-29 or '2026-11-29 14:30'"
        ) from exc


def duration(seconds: float) -> str:
    """`seconds` in the two largest units, short."""
    if seconds < 60:
        return f"{max(0.0, seconds):.1f} s"
    minutes = int(seconds / 60)
    if minutes < 60:
        return f"{minutes} m {int(seconds % 60)} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} m" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def money(dollars: float) -> str:
    return f"{dollars:.4f}" if dollars else "0"
