"""Tasks about tables and rows."""

import collections
import csv
import io
import random

from penstock.models.offline.coder.kinds import Kind, Slip, Variant, shuffled, whole

# --- Matrices ---------------------------------------------------------------------------------


def _matrix_sample(dice: random.Random) -> str:
    wide = whole(dice, 3, 5)
    # Not a square, and no two numbers alike: what is in the wrong place is seen.
    rows = [[str(whole(dice, 0, 8) + 10 * (wide * y + x)) for x in range(wide)] for y in range(2)]
    return "\n".join(" ".join(row) for row in rows) + "\n"


def _turned(detail: str, text: str) -> str:
    rows = [line.split() for line in text.splitlines()]
    high, wide = len(rows), len(rows[0])
    made = {
        "transposed": [[rows[y][x] for y in range(high)] for x in range(wide)],
        "turned right": [[rows[high - 1 - y][x] for y in range(high)] for x in range(wide)],
        "turned left": [[rows[y][wide - 1 - x] for y in range(high)] for x in range(wide)],
        "mirrored": [[rows[y][wide - 1 - x] for x in range(wide)] for y in range(high)],
        "upside down": [rows[high - 1 - y] for y in range(high)],
        "half a turn": [
            [rows[high - 1 - y][wide - 1 - x] for x in range(wide)] for y in range(high)
        ],
    }[detail]
    return "\n".join(" ".join(row) for row in made)


def _turn(detail: str, what: str, made: str) -> Variant:
    return Variant(detail, {"what": what, "made": made})


MATRICES = Kind(
    name="Turning a matrix",
    about="""\
Read the rows of a matrix, one a line, with spaces between the numbers. Print it $what, in the same
form.""",
    how="zip(*rows) gives the columns; which way they are read is the rest.",
    program="""
import sys

rows = [line.split() for line in sys.stdin if line.strip()]
for row in $made:
    print(*row)
""",
    sample=_matrix_sample,
    solve=_turned,
    variants=(
        _turn("transposed", "transposed: its rows become columns", "zip(*rows)"),
        _turn("turned right", "turned by a quarter, clockwise", "zip(*rows[::-1])"),
        _turn("turned left", "turned by a quarter, counterclockwise", "list(zip(*rows))[::-1]"),
        _turn("mirrored", "mirrored: left is right", "[row[::-1] for row in rows]"),
        _turn("upside down", "with the last row first", "rows[::-1]"),
        _turn("half a turn", "turned by a half", "[row[::-1] for row in rows[::-1]]"),
    ),
    slips=(
        Slip("zip(*rows[::-1])", "list(zip(*rows))[::-1]", "It turned to the left."),
        Slip("print(*row)", "print(row)", "It printed the list with its brackets and quotes."),
    ),
)


# --- Totals of a table ------------------------------------------------------------------------

_TOWNS = ('"Bergen, Norway"', "Lima", "Oslo", '"Paris, Texas"', "Quito")


def _sales_sample(dice: random.Random) -> str:
    towns = shuffled(dice, list(_TOWNS))[:3]
    lines = [f"{town},{whole(dice, 2, 60)}" for town in towns for _ in range(whole(dice, 2, 3))]
    # A name with a comma and a mean with decimals are always there.
    last = [f'"Bergen, Norway",{whole(dice, 61, 99)}', "Nara,10", "Nara,13"]
    return "town,amount\n" + "\n".join([*shuffled(dice, lines), *last]) + "\n"


def _totals(detail: str, text: str) -> str:
    amounts: dict[str, list[int]] = collections.defaultdict(list)
    for row in csv.DictReader(io.StringIO(text)):
        amounts[row["town"]].append(int(row["amount"]))
    whole_sum = sum(map(sum, amounts.values()))
    said = []
    for town, values in sorted(amounts.items()):
        shown = {
            "sum": str(sum(values)),
            "largest": str(max(values)),
            "smallest": str(min(values)),
            "count": str(len(values)),
            "mean": f"{sum(values) / len(values):.2f}",
            "share": f"{100 * sum(values) / whole_sum:.1f}%",
        }[detail]
        said.append(f"{town}: {shown}")
    return "\n".join(said)


def _total(detail: str, what: str, shown: str) -> Variant:
    return Variant(detail, {"what": what, "shown": shown})


TOTALS = Kind(
    name="CSV totals",
    about="""\
Read a CSV table with the columns town and amount and a header; names with commas are quoted. For
each town print a line with its name, a colon, a space and $what, in alphabetical order.""",
    how="The csv module reads the quoted names; the amounts are kept by town.",
    program="""
import csv
import sys

amounts = {}
for row in csv.DictReader(sys.stdin):
    amounts.setdefault(row["town"], []).append(int(row["amount"]))
everything = sum(sum(values) for values in amounts.values())
for town in sorted(amounts):
    values = amounts[town]
    print(f"{town}: {$shown}")
""",
    sample=_sales_sample,
    solve=_totals,
    variants=(
        _total("sum", "the sum of its amounts", "sum(values)"),
        _total("largest", "its largest amount", "max(values)"),
        _total("smallest", "its smallest amount", "min(values)"),
        _total("count", "how many amounts it has", "len(values)"),
        _total(
            "mean",
            "the mean of its amounts with two decimals",
            "sum(values) / len(values):.2f",
        ),
        _total(
            "share",
            "its share of all amounts with one decimal and a % sign",
            "100 * sum(values) / everything:.1f}%{''",
        ),
    ),
    slips=(
        Slip(
            "for row in csv.DictReader(sys.stdin):\n"
            '    amounts.setdefault(row["town"], []).append(int(row["amount"]))',
            "for line in sys.stdin:\n"
            '    town, amount = line.split(",")\n'
            "    amounts.setdefault(town, []).append(int(amount))",
            "It split at every comma, also inside quotes, and took the header for a row.",
        ),
        Slip(
            "sum(values) / len(values):.2f",
            "sum(values) // len(values):.2f",
            "It divided whole numbers, and the decimals were lost.",
        ),
    ),
)


# --- Moving averages --------------------------------------------------------------------------


def _averages(detail: str, text: str) -> str:
    window = int(detail.split()[1])
    numbers = [int(word) for word in text.split()]
    return "\n".join(
        f"{sum(numbers[at : at + window]) / window:.2f}" for at in range(len(numbers) - window + 1)
    )


AVERAGES = Kind(
    name="Moving average",
    about="""\
Read whole numbers, one a line. Print the mean of each $window numbers that follow each other, with
two decimals, one a line.""",
    how="A window slides over the numbers, one at a time.",
    program="""
import sys

WINDOW = $window
numbers = [int(word) for word in sys.stdin.read().split()]
for start in range(len(numbers) - WINDOW + 1):
    window = numbers[start : start + WINDOW]
    print(f"{sum(window) / WINDOW:.2f}")
""",
    sample=lambda dice: "".join(f"{whole(dice, -20, 90)}\n" for _ in range(whole(dice, 9, 12))),
    solve=_averages,
    variants=tuple(Variant(f"window {n}", {"window": str(n)}) for n in (2, 3, 4, 5, 6, 7)),
    slips=(
        Slip("- WINDOW + 1)", "- WINDOW)", "It was off by one: the last window was left out."),
        Slip("start + WINDOW]", "start + WINDOW + 1]", "Each window held one number too many."),
    ),
)


KINDS = (MATRICES, TOTALS, AVERAGES)
