"""The report: medians over the rounds, the aims beside them, and ratios within a round."""

import json
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from bench.cases import FIELD, MORE, RATIOS, Case, Row
from bench.figures import Result
from bench.trees import Tree

#: For each tree, the figures of each case in each round.
Runs = dict[Tree, list[dict[str, Result]]]
Take = Callable[[dict[str, Result]], float | None]


def first(case: Case, result: Result) -> str:
    """The case's first figure, for the screen."""
    row = case.rows[0]
    return f"{_number(result[row.figure], row.digits)} {row.unit}".strip()


def table(cases: Sequence[Case], runs: Runs, skipped: Mapping[str, str], *, quick: bool) -> str:
    """Everything that was measured, as text, and by name why cases and rows were `skipped`."""
    trees = list(runs)
    lines = [["", "median", "lowest .. highest", "", "aim", "of the aim"]]
    if len(trees) > 1:
        lines[0] += ["the other", "this / other"]
    for case in cases:
        # Side by side is for systems; two trees are compared row by row, also of these cases.
        if not case.system or len(trees) > 1:
            lines += [_line(case, row, runs, quick) for row in case.rows]
    ratios = [["", "median", "lowest .. highest", "", "", ""]]
    for ratio in RATIOS:
        over, under = _taking(*ratio.over), _taking(*ratio.under)
        values = _quotients(runs[trees[0]], over, runs[trees[0]], under)
        if values:
            ratios.append([ratio.label, *_spread(values, 2), ratio.note, "", ""])
    parts = [_aligned(lines)] if len(lines) > 1 else []
    if any(case.system for case in cases):
        parts.append("The field side by side, medians\n" + _field(cases, runs[trees[0]]))
    if skipped:
        parts.append("\n".join(f"{name}: {why}" for name, why in skipped.items()))
    if len(ratios) > 1:
        parts.append("Ratios, each within one round\n" + _aligned(ratios))
    text = "\n\n".join(parts)
    if len(trees) > 1:
        this, other = trees
        text += f"\n\nthis: {this.root} ({this.versions})"
        text += f"\nthe other: {other.root} ({other.versions})"
    return text


def _field(cases: Sequence[Case], rounds: Sequence[dict[str, Result]]) -> str:
    lines = [["", *(row.label for row in FIELD)]]
    for case in cases:
        if case.system:
            found = [_values(rounds, _taking(case.name, row.figure)) for row in FIELD]
            lines.append([case.system])
            lines[-1] += [
                _spread(values, row.digits)[0] for values, row in zip(found, FIELD, strict=True)
            ]
    return _aligned(lines, words=(0,))


def _line(case: Case, row: Row, runs: Runs, quick: bool) -> list[str]:
    take = _taking(case.name, row.figure)
    here, *others = runs.values()
    values = _values(here, take)
    label = f"{case.system}: {row.label}" if case.system else row.label
    line = [label, *_spread(values, row.digits), row.unit]
    if row.aim is not None and values and (case.quick_aims or not quick):
        median = statistics.median(values)
        part = median / row.aim if row.better == MORE else row.aim / median
        line += [_number(row.aim, row.digits), f"{part:.2f}{'' if part < 1 else ' met'}"]
    else:
        line += ["", ""]
    for other in others:
        theirs = _values(other, take)
        quotients = _quotients(here, take, other, take)
        line.append(_number(statistics.median(theirs), row.digits) if theirs else "-")
        line.append(" ".join(_spread(quotients, 3)))
    return line


def _taking(case: str, figure: str) -> Take:
    return lambda results: results.get(case, {}).get(figure)


def _values(rounds: Sequence[dict[str, Result]], take: Take) -> list[float]:
    return [value for results in rounds if (value := take(results)) is not None]


def _quotients(
    over: Sequence[dict[str, Result]], take: Take, under: Sequence[dict[str, Result]], by: Take
) -> list[float]:
    """A quotient for each round that has both: a slow minute slows both, and cancels out."""
    pairs = [(take(a), by(b)) for a, b in zip(over, under, strict=True)]
    return [a / b for a, b in pairs if a is not None and b]


def _spread(values: Sequence[float], digits: int) -> list[str]:
    if not values:
        return ["-", ""]
    median = _number(statistics.median(values), digits)
    if len(values) == 1:
        return [median, ""]
    return [median, f"{_number(min(values), digits)} .. {_number(max(values), digits)}"]


def _number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}"


def _aligned(lines: Sequence[Sequence[str]], words: Sequence[int] = (0, 3)) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = []
    for line in lines:
        cells = [
            # Words to the left, figures to the right.
            cell.ljust(width) if column in words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def write(file: pathlib.Path, cases: Sequence[Case], runs: Runs, machine: str, quick: bool) -> None:
    """`file` has every figure of every round, for programs."""
    data = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine,
        "quick": quick,
        "cases": {case.name: case.about for case in cases},
        "aims": {
            f"{case.name}.{row.figure}": row.aim
            for case in cases
            for row in case.rows
            if row.aim is not None
        },
        "rounds": {str(tree.root): rounds for tree, rounds in runs.items()},
    }
    file.write_text(json.dumps(data, indent=2) + "\n")
