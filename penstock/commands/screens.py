"""Screens: trees, tables and colours, for people on a terminal.

Model text is untrusted: it is printed without markup, and as `penstock.worker.console` shows it.
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from penstock.models import LABEL, wrote_offline
from penstock.record.events import Usage, as_text
from penstock.runs.runs import DEAD, DONE, Entry, Run
from penstock.under_way import Step
from penstock.worker.console import printable


class Screen(Console):
    """A console that shows text alone: what moves the cursor or hides text is left out of all that
    is printed, whoever wrote it."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            if segment.control is None:
                yield Segment(printable(segment.text), segment.style)
            else:
                yield segment


#: Progress and complaints; stdout is for what was asked for.
progress = Screen(stderr=True, highlight=False, soft_wrap=True)
output = Screen(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)


def step_line(entry: Entry) -> Text:
    """One line for one finished stage: who, how long, how many tokens."""
    event, usage = entry.event, entry.event.usage
    line = Text()
    line.append(f"  {event.agent or event.stage:<12}", style="bold")
    line.append(f" → {entry.topic:<10}")
    if usage is not None:
        line.append(f" {usage.seconds:6.1f} s")
        if usage.requests:
            line.append(f"  {usage.tokens}", style="dim")
        if usage.cut:
            line.append(f"  cut off ({usage.cut})", style="yellow")
    if event.attempt > 1:
        line.append(f"  (try {event.attempt})", style="yellow")
    return line


def line_under_way(step: Step, now: float) -> Text:
    """One line for one stage that is under way: who, how long, how many tokens; or what it waits
    for, and until when."""
    minutes, seconds = divmod(int(now - step.since), 60)
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"  {step.who:<12}", style="bold")
    line.append(f" … {minutes}:{seconds:02}")
    if step.waits_for:
        until = time.strftime(" until %H:%M:%S", time.localtime(step.until)) if step.until else ""
        line.append(f"  waits{until} for {step.waits_for}".replace("\n", " "), style="yellow")
    elif step.tokens:
        a_second = step.tokens / max(0.1, now - step.first_token_at)
        line.append(f"  {step.tokens} tokens, {a_second:.1f}/s", style="dim")
    return line


def table(columns: Mapping[str, bool], rows: Sequence[Sequence[str]], cut: str = "") -> Table:
    """A table of texts. `columns` are the headings, and whether the cells are numbers; where there
    is not enough room, cells of the column `cut` are cut. Columns without a word are left out."""
    found = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    cells = [[" ".join(printable(cell).split()) for cell in row] for row in rows]
    shown = [number for number in range(len(columns)) if any(row[number] for row in cells)]
    for number, (name, is_number) in enumerate(columns.items()):
        if number in shown:
            widest = max(map(cell_len, [name, *(row[number] for row in cells)]))
            justify: Any = "right" if is_number else "left"
            least = len(name) if name == cut else widest
            found.add_column(name, justify=justify, no_wrap=True, min_width=least)
    for row in cells:
        found.add_row(*(Text(row[number]) for number in shown))
    return found


def run_tree(run: Run) -> Tree:
    """The run as a tree: each event under the one it was made from."""
    colours = {DONE: "green", DEAD: "red"}
    used = [entry.event.usage for entry in run.entries if entry.event.usage]
    total = Usage(
        input_tokens=sum(usage.input_tokens for usage in used),
        output_tokens=sum(usage.output_tokens for usage in used),
    )
    title = Text.assemble(
        (run.pipeline, "bold"),
        f"  {run.trace_id}  ",
        (run.state, colours.get(run.state, "yellow")),
        (", cut off" if run.state == DONE and run.is_cut else "", "yellow"),
        (f"  {_span(run):.1f} s, {total.tokens}", "dim"),
    )
    tags = run.entries[0].event.tags if run.entries else {}
    for name, value in tags.items():
        title.append("  " + " ".join(f"{name}: {value}".split()), style="dim")
    tree = Tree(title)
    if any(e.event.usage and wrote_offline(e.event.usage.model) for e in run.entries):
        tree.add(Text(LABEL, style="dim italic"))
    begun = run.entries[0].event.created if run.entries else time.time()
    made = {one.entry.event.id: one.name for one in run.made}

    def grow(branch: Tree, parent_id: str | None, ended: str = "") -> None:
        for entry in run.children(parent_id):
            event, usage = entry.event, entry.event.usage
            label = Text.assemble(
                (entry.topic, "cyan"),
                f"  +{event.created - begun:.2f} s  ",
                (event.agent or event.stage, "bold"),
            )
            if event.card:
                label.append(f"  {event.card}", style="dim")
            if usage is not None:
                label.append(f"  {usage.seconds:.2f} s")
                if usage.requests:
                    label.append(f"  {usage.tokens}  {usage.model}")
                if usage.cut:
                    label.append(f"  cut off ({usage.cut})", style="yellow")
            if event.attempt > 1:
                label.append(f"  try {event.attempt}", style="yellow")
            if event.ended != ended:
                label.append(f"  the loop ended: {printable(event.ended)}", style="yellow")
            part = event.parts.get(made.get(event.id, entry.topic), "")
            text = printable(_glimpse(part)).strip()
            first = text.split("\n")[0][:72]
            if first:
                label.append(f"\n{first}{'…' if len(first) < len(text) else ''}", style="dim")
            for name in entry.waits_for:
                label.append(f"\nwaits for {name}", style="yellow")
            twig = branch.add(label)
            for dead_letter in run.dead_letters:
                if dead_letter.event_id == event.id:
                    twig.add(_dead_letter_line(dead_letter))
            grow(twig, event.id, event.ended)

    grow(tree, None)
    known = {entry.event.id for entry in run.entries}
    for dead_letter in run.dead_letters:
        if dead_letter.event_id not in known:
            tree.add(_dead_letter_line(dead_letter))
    return tree


def _glimpse(part: Any) -> str:
    """The beginning of a part says what it is, also of one that is JSON."""
    if isinstance(part, dict):
        return ", ".join(f"{name}: {' '.join(as_text(one).split())}" for name, one in part.items())
    return as_text(part)


def _dead_letter_line(dead_letter: Any) -> Text:
    return Text.assemble(
        ("dead letter ", "bold red"),
        f"{dead_letter.id} in {dead_letter.stage}, ",
        f"{dead_letter.attempts} tries: {dead_letter.cause}: {printable(dead_letter.message)}",
    )


def _span(run: Run) -> float:
    times = [entry.event.created for entry in run.entries] or [0.0]
    return max(times) - min(times)
