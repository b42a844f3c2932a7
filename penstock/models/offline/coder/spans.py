"""Tasks about what lies between two ends."""

import datetime
import itertools
import random

from penstock.models.offline.coder.kinds import Kind, Slip, Variant, shuffled, whole

# --- Binary search ----------------------------------------------------------------------------


def _search_sample(dice: random.Random) -> str:
    numbers: list[int] = []
    for _ in range(whole(dice, 5, 8)):
        numbers += [(numbers[-1] if numbers else 0) + whole(dice, 2, 9)] * whole(dice, 1, 3)
    middle = numbers[len(numbers) // 2]
    asked = [numbers[0], middle, numbers[-1], numbers[-1] + 1, 0, whole(dice, 1, numbers[-1])]
    return f"{' '.join(map(str, numbers))}\n{' '.join(map(str, asked))}\n"


def _searched(detail: str, text: str) -> str:
    numbers, asked = ([int(word) for word in line.split()] for line in text.splitlines())
    found: list[object] = []
    for x in asked:
        smaller = sum(n < x for n in numbers)
        found.append(
            {
                "how many are smaller": smaller,
                "how many are greater": sum(n > x for n in numbers),
                "first place": smaller if x in numbers else -1,
                "place from 1": smaller + 1 if x in numbers else 0,
                "how many are equal": numbers.count(x),
                "found or not": "found" if x in numbers else "missing",
            }[detail]
        )
    return "\n".join(map(str, found))


def _look(detail: str, what: str, shown: str) -> Variant:
    return Variant(detail, {"what": what, "shown": shown})


SEARCHES = Kind(
    name="Binary search",
    about="""\
The first line holds whole numbers in rising order, some of them more than once; the second line
holds numbers to look for. For each of these print, one a line, $what.""",
    how="It halves the range in which the first number that is not smaller can stand.",
    program="""
numbers = [int(word) for word in input().split()]
wanted = [int(word) for word in input().split()]


def place(number):
    low, high = 0, len(numbers)
    while low < high:
        middle = (low + high) // 2
        if numbers[middle] < number:
            low = middle + 1
        else:
            high = middle
    return low


for number in wanted:
    start, end = place(number), place(number + 1)
    print($shown)
""",
    sample=_search_sample,
    solve=_searched,
    variants=(
        _look("how many are smaller", "how many are smaller", "start"),
        _look("how many are greater", "how many are greater", "len(numbers) - end"),
        _look(
            "first place",
            "the first place where it stands, counted from 0, or -1",
            "start if start < end else -1",
        ),
        _look(
            "place from 1",
            "the first place where it stands, counted from 1, or 0",
            "start + 1 if start < end else 0",
        ),
        _look("how many are equal", "how often it is there", "end - start"),
        _look(
            "found or not",
            "found or missing",
            '"found" if start < end else "missing"',
        ),
    ),
    slips=(
        Slip(
            "low = middle + 1",
            "low = middle",
            "When one number is left, low = middle changes nothing, and the loop never ended.",
        ),
        Slip("place(number + 1)", "place(number) + 1", "Equal numbers may come more than once."),
    ),
)


# --- Days -------------------------------------------------------------------------------------


def _date_sample(dice: random.Random) -> str:
    # A pair in one week, one over the end of a leap February, one over a new year.
    day = datetime.date(2024, 2, whole(dice, 5, 26))
    pairs = [
        (datetime.date(2023, 5, 1), datetime.date(2023, 5, whole(dice, 2, 7))),
        (day, day + datetime.timedelta(whole(dice, 25, 80))),
        (datetime.date(2023, 12, whole(dice, 1, 30)), datetime.date(2024, 1, whole(dice, 8, 31))),
    ]
    return "".join(f"{first} {last}\n" for first, last in pairs)


def _days(detail: str, text: str) -> str:
    said = []
    for line in text.splitlines():
        first, last = (datetime.date.fromisoformat(word) for word in line.split())
        days, at = 0, first
        weekdays = []
        while at < last:
            weekdays.append(at.weekday())
            days, at = days + 1, at + datetime.timedelta(1)
        said.append(
            {
                "in days": str(days),
                "with both days": str(days + 1),
                "in hours": str(24 * days),
                "weeks and days": f"{days // 7} weeks {days % 7} days",
                "working days": str(sum(day < 5 for day in weekdays)),
                "day of the week": f"{first:%A} {last:%A}",
            }[detail]
        )
    return "\n".join(said)


def _span(detail: str, what: str, shown: str) -> Variant:
    return Variant(detail, {"what": what, "shown": shown})


DATES = Kind(
    name="Date differences",
    about="""\
Read lines with two dates such as 2024-02-29, the earlier one first. For each line print $what.""",
    how="datetime.date knows the lengths of months and leap years.",
    program="""
import sys
from datetime import date, timedelta

for line in sys.stdin:
    first, last = [date.fromisoformat(word) for word in line.split()]
    days = (last - first).days
    print($shown)
""",
    sample=_date_sample,
    solve=_days,
    variants=(
        _span("in days", "the number of days from the first to the second", "days"),
        _span("with both days", "the number of days, both dates included", "days + 1"),
        _span("in hours", "the number of hours between their midnights", "24 * days"),
        _span(
            "weeks and days",
            "the whole weeks and the days left, such as 3 weeks 2 days",
            'days // 7, "weeks", days % 7, "days"',
        ),
        _span(
            "working days",
            "how many days from Monday to Friday there are, the second date not included",
            "sum((first + timedelta(n)).weekday() < 5 for n in range(days))",
        ),
        _span(
            "day of the week",
            "on which days of the week they are, such as Monday Friday",
            'first.strftime("%A"), last.strftime("%A")',
        ),
    ),
    slips=(
        Slip("days + 1", "days", "The last day counts too: it was off by one."),
        Slip("weekday() < 5", "weekday() <= 5", "Monday is 0, so Saturday was taken for a Friday."),
    ),
)


# --- Intervals --------------------------------------------------------------------------------


def _interval_sample(dice: random.Random) -> str:
    spans = [(20, 40), (25, 30), (60, 70), (70, 75)]
    for _ in range(whole(dice, 2, 4)):
        start = whole(dice, 80, 140)
        spans.append((start, start + whole(dice, 2, 12)))
    lines = shuffled(dice, [f"{start} {end}" for start, end in spans])
    # The first line is not the earliest, so that sorting matters.
    return "\n".join(["150 156", *lines, "1 4"]) + "\n"


def _merged(detail: str, text: str) -> str:
    spans = [tuple(int(word) for word in line.split()) for line in text.splitlines()]
    inside = {n + half for a, b in spans for n in range(a, b) for half in (0, 0.5)}
    inside |= {b for _, b in spans}
    runs: list[list[float]] = []
    for n in sorted(inside):
        if runs and n - runs[-1][1] == 0.5:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    found = [(int(a), int(b)) for a, b in runs]
    return {
        "the merged list": "\n".join(f"{a} {b}" for a, b in found),
        "total length": str(sum(b - a for a, b in found)),
        "the gaps": "\n".join(f"{one[1]} {two[0]}" for one, two in itertools.pairwise(found)),
        "how many are left": str(len(found)),
        "the longest": str(max(b - a for a, b in found)),
        "begin and end": f"{found[0][0]} {found[-1][1]}",
    }[detail]


INTERVALS = Kind(
    name="Merged intervals",
    about="""\
Read intervals, each as two whole numbers on a line, the smaller one first. Those that overlap or
touch become one. Print $what.""",
    how="In rising order each interval either reaches into the one before it or begins a new one.",
    program="""
import sys

intervals = sorted([int(word) for word in line.split()] for line in sys.stdin)
merged = []
for start, end in intervals:
    if merged and start <= merged[-1][1]:
        merged[-1][1] = max(merged[-1][1], end)
    else:
        merged.append([start, end])
$show
""",
    sample=_interval_sample,
    solve=_merged,
    variants=(
        Variant(
            "the merged list",
            {
                "what": "those that are left in rising order, one a line",
                "show": "for start, end in merged:\n    print(start, end)",
            },
        ),
        Variant(
            "total length",
            {
                "what": "the sum of the lengths of those that are left",
                "show": "print(sum(end - start for start, end in merged))",
            },
        ),
        Variant(
            "the gaps",
            {
                "what": "the gaps between those that are left, one a line as two numbers",
                "show": "for one, two in zip(merged, merged[1:]):\n    print(one[1], two[0])",
            },
        ),
        Variant(
            "how many are left",
            {"what": "how many are left", "show": "print(len(merged))"},
        ),
        Variant(
            "the longest",
            {
                "what": "the length of the longest that is left",
                "show": "print(max(end - start for start, end in merged))",
            },
        ),
        Variant(
            "begin and end",
            {
                "what": "the begin of the first and the end of the last, on one line",
                "show": "print(merged[0][0], merged[-1][1])",
            },
        ),
    ),
    slips=(
        Slip(
            "max(merged[-1][1], end)", "end", "One that lies inside another made the other shorter."
        ),
        Slip(
            "intervals = sorted([int(word) for word in line.split()] for line in sys.stdin)",
            "intervals = [[int(word) for word in line.split()] for line in sys.stdin]",
            "It did not sort, so early intervals were merged into late ones.",
        ),
    ),
)


KINDS = (SEARCHES, DATES, INTERVALS)
