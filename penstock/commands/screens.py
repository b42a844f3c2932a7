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

from penstock.journal import MODEL, Call
from penstock.models import LABEL, wrote_offline
from penstock.record.events import Usage, as_text
from penstock.record.steps import (
    CANCELLED,
    OUTAGE,
    PACE,
    QUEUE,
    SKIPPED,
    SLOTS,
    Spent,
    StepRecord,
)
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


#: Characters of a text that are a glimpse of it.
GLIMPSE = 72
#: What a step waited for, by the kind of hold.
WAITS = {
    QUEUE: "for",
    SLOTS: "for a place among the calls of",
    OUTAGE: "for an outage to end:",
    PACE: "for the rate of",
}

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


def run_tree(run: Run, steps: Sequence[StepRecord] = (), *, full: bool = False) -> Tree:
    """The run as a tree: under each event the steps that were done with it, and under each step
    what it waited for, how it failed, what it called, and the events that it made. With `full`,
    texts are whole."""
    return _RunTree(run, steps, full).tree()


class _RunTree:
    def __init__(self, run: Run, steps: Sequence[StepRecord], full: bool) -> None:
        self.run = run
        self.steps = [step for step in steps if step.end != SKIPPED]
        self.full = full
        self.begun = run.entries[0].event.created if run.entries else time.time()
        self.made = {one.entry.event.id: one.name for one in run.made}

    def tree(self) -> Tree:
        tree = Tree(Text("\n").join([self._title(), *self._sums()]))
        if any(e.event.usage and wrote_offline(e.event.usage.model) for e in self.run.entries):
            tree.add(Text(LABEL, style="dim italic"))
        for entry in self.run.children(None):
            self._grow(tree, entry, "")
        known = {entry.event.id for entry in self.run.entries}
        for dead_letter in self.run.dead_letters:
            if dead_letter.event_id not in known:
                tree.add(_dead_letter_line(dead_letter))
        return tree

    def _title(self) -> Text:
        run, colours = self.run, {DONE: "green", DEAD: "red"}
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
        return title

    def _sums(self) -> list[Text]:
        if not self.steps:
            return []
        spent = Spent.of(self.steps)
        said = [f"waited {spent.waited_s:.1f} s, worked {spent.worked_s:.1f} s"]
        if spent.calls or spent.recalled:
            said.append(f"cost {_money(spent.cost, spent.unpriced)}")
        if spent.recalled:
            saved = _money(spent.saved, spent.saved_unpriced)
            said.append(f"{_count(spent.recalled, 'answer')} recalled, {saved} not paid again")
        return [Text("; ".join(said), style="dim")]

    def _grow(self, branch: Tree, entry: Entry, ended: str) -> None:
        event = entry.event
        twig = branch.add(self._event(entry, ended))
        children = self.run.children(event.id)
        shown: set[str] = set()
        for step in self.steps:
            if step.event != event.id or step.topic != entry.topic:
                continue
            under = twig.add(self._step(step))
            for line in self._did(step):
                under.add(line)
            outputs = {id_ for _, id_ in step.outputs}
            for child in children:
                if child.event.id in outputs and child.event.id not in shown:
                    shown.add(child.event.id)
                    self._grow(under, child, event.ended)
        for dead_letter in self.run.dead_letters:
            if dead_letter.event_id == event.id:
                twig.add(_dead_letter_line(dead_letter))
        for child in children:
            if child.event.id not in shown:
                self._grow(twig, child, event.ended)

    def _event(self, entry: Entry, ended: str) -> Text:
        event, usage = entry.event, entry.event.usage
        label = Text.assemble(
            (entry.topic, "cyan"),
            f"  +{event.created - self.begun:.2f} s  ",
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
        part = event.parts.get(self.made.get(event.id, entry.topic), "")
        if text := self._short(as_text(part) if self.full else _glimpse(part)):
            label.append(f"\n{text}", style="dim")
        for name in entry.waits_for:
            label.append(f"\nwaits for {name}", style="yellow")
        return label

    def _step(self, step: StepRecord) -> Text:
        colours = {DEAD: "red", CANCELLED: "yellow"}
        line = Text.assemble(
            (step.stage, "bold"),
            f"  {step.ended - step.taken:.2f} s",
            ("" if step.end == DONE else f"  {step.end}", colours.get(step.end, "")),
            (f"  {step.worker}", "dim"),
        )
        if step.replay:
            line.append(f"  replay {step.replay}", style="yellow")
        if step.deaths:
            deaths = _count(step.deaths, "worker")
            line.append(f"  {deaths} died in it: a call in flight was lost", style="yellow")
        return line

    def _did(self, step: StepRecord) -> Iterator[Text]:
        for hold in step.holds:
            yield Text(
                f"waited {hold.until - hold.since:.1f} s: {WAITS[hold.kind]} {hold.what}",
                style="yellow",
            )
        for number, one in enumerate(step.tries, 1):
            line = f"try {number} failed after {one.ended - one.began:.1f} s: {one.error}"
            again = f"; again after {one.pause_s:.1f} s" if one.pause_s else ""
            yield Text(self._short(line) + again, style="yellow")
        for call in step.calls:
            yield self._call(call)
        if step.end == DONE and not step.outputs:
            yield Text(f"wrote nothing{': ' if step.result else ''}{self._short(step.result)}")
        if step.end == DONE and step.error:
            yield Text(f"the loop ended: {self._short(step.error)}", style="yellow")

    def _call(self, call: Call) -> Text:
        line = Text(f"{call.kind} {printable(call.name)}")
        if not call.recalled:
            line.append(f"  {call.answered - call.asked:.2f} s")
        if call.kind == MODEL:
            kinds = {"cached": call.cached_tokens, "written to the cache": call.cache_write_tokens}
            cached = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
            line.append(f"  {call.input_tokens} tokens in{f' ({cached})' if cached else ''}")
            line.append(f", {call.output_tokens} out")
            if call.reasoning_tokens:
                line.append(f" ({call.reasoning_tokens} reasoning)")
            line.append(f"  {_money(call.cost or 0.0, call.cost is None)}")
            if call.finish:
                line.append(f"  cut off ({call.finish})", style="yellow")
        if call.recalled:
            line.append("  recalled, not paid again", style="green")
        if call.request or call.answer:
            line.append(f"\n({self._short(call.request)}) → {self._short(call.answer)}", "dim")
        if call.error:
            line.append(f"\nfailed: {self._short(call.error)}", style="red")
        return line

    def _short(self, text: str) -> str:
        """The first line of `text` for a glimpse; all of it where everything is asked for."""
        text = printable(text).strip()
        if self.full:
            return text
        first = text.split("\n")[0][:GLIMPSE]
        return f"{first}{'…' if len(first) < len(text) else ''}"


def _money(dollars: float, unpriced: int) -> str:
    """What is known of a cost: "unknown" where nothing is."""
    if not unpriced:
        return dollars_of(dollars)
    return f"{dollars_of(dollars)} and an unknown price" if dollars else "unknown"


def dollars_of(amount: float) -> str:
    """US dollars, with as many digits as a small amount needs to be more than nothing."""
    return f"${amount:.4f}" if amount >= 0.001 or not amount else f"${amount:.2g}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


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
