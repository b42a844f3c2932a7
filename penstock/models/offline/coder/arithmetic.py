"""Tasks about what is done with numbers."""

import math
import random

from penstock.models.offline.coder.kinds import Kind, Slip, Variant, whole


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split()]


# --- Divisors, steps, bases -------------------------------------------------------------------


def _divisors(detail: str, text: str) -> str:
    said = []
    for line in text.splitlines():
        a, b = _numbers(line)
        said.append(
            {
                "greatest common": math.gcd(a, b),
                "least common multiple": math.lcm(a, b),
                "shortened fraction": f"{a // math.gcd(a, b)}/{b // math.gcd(a, b)}",
                "without a common one": "yes" if math.gcd(a, b) == 1 else "no",
                "how many in common": sum(not (a % d or b % d) for d in range(1, a + 1)),
                "steps of Euclid": _euclid_steps(a, b),
            }[detail]
        )
    return "\n".join(map(str, said))


def _euclid_steps(a: int, b: int) -> int:
    return 0 if b == 0 else 1 + _euclid_steps(b, a % b)


def _divisor_sample(dice: random.Random) -> str:
    common = [whole(dice, 2, 9) for _ in range(3)]
    lines = [f"{c * whole(dice, 11, 30)} {c * whole(dice, 2, 10)}" for c in common]
    return "\n".join([*lines, "84 36", ""])


DIVISORS = Kind(
    name="Common divisors",
    about="Read lines with two whole numbers a and b, both at least 1. For each line print $what.",
    how="Euclid's algorithm, which also counts its divisions.",
    program="""
import sys


def euclid(a, b):
    steps = 0
    while b:
        a, b = b, a % b
        steps += 1
    return a, steps


for line in sys.stdin:
    a, b = [int(word) for word in line.split()]
    common, steps = euclid(a, b)
    print($shown)
""",
    sample=_divisor_sample,
    solve=_divisors,
    variants=(
        Variant("greatest common", {"what": "the greatest common divisor", "shown": "common"}),
        Variant(
            "least common multiple",
            {"what": "the least common multiple", "shown": "a * b // common"},
        ),
        Variant(
            "shortened fraction",
            {
                "what": "the fraction a/b, shortened, such as 3/4",
                "shown": 'f"{a // common}/{b // common}"',
            },
        ),
        Variant(
            "without a common one",
            {
                "what": "yes when 1 is their only common divisor, else no",
                "shown": '"yes" if common == 1 else "no"',
            },
        ),
        Variant(
            "how many in common",
            {
                "what": "how many common divisors they have",
                "shown": "sum(common % d == 0 for d in range(1, common + 1))",
            },
        ),
        Variant(
            "steps of Euclid",
            {
                "what": "how many divisions Euclid's algorithm makes, a by b first",
                "shown": "steps",
            },
        ),
    ),
    slips=(
        Slip("a * b // common", "a * b / common", "A single / makes 252.0 of 252; // is wanted."),
        Slip("range(1, common + 1)", "range(1, common)", "The greatest of them was left out."),
    ),
)


def _collatz(detail: str, text: str) -> str:
    line = [int(text)]
    while line[-1] != 1:
        line.append(3 * line[-1] + 1 if line[-1] & 1 else line[-1] >> 1)
    shown: dict[str, object] = {
        "how many steps": len(line) - 1,
        "the highest": max(line),
        "the whole way": " ".join(map(str, line)),
        "how many odd": sum(n & 1 for n in line),
        "the sum": sum(line),
        "the last five": " ".join(map(str, line[-5:])),
    }
    return str(shown[detail])


COLLATZ = Kind(
    name="Collatz numbers",
    about="""\
Read a whole number, at least 5. While it is not 1, an even number is halved, and an odd one is
multiplied by 3 and 1 is added. Of all numbers on this way, both ends included, print $what.""",
    how="It keeps every number on the way and looks at them at the end.",
    program="""
number = int(input())
seen = [number]
while number != 1:
    if number % 2 == 0:
        number = number // 2
    else:
        number = 3 * number + 1
    seen.append(number)
print($shown)
""",
    # From each of these the way to the highest leads by a half.
    sample=lambda dice: f"{(7, 9, 10, 11, 14, 18, 22, 25)[whole(dice, 0, 7)]}\n",
    solve=_collatz,
    variants=(
        Variant("how many steps", {"what": "how many steps lead to 1", "shown": "len(seen) - 1"}),
        Variant("the highest", {"what": "the highest", "shown": "max(seen)"}),
        Variant("the whole way", {"what": "all, on one line with spaces", "shown": "*seen"}),
        Variant(
            "how many odd",
            {"what": "how many are odd", "shown": "sum(number % 2 for number in seen)"},
        ),
        Variant("the sum", {"what": "the sum", "shown": "sum(seen)"}),
        Variant(
            "the last five",
            {"what": "the last five, on one line with spaces", "shown": "*seen[-5:]"},
        ),
    ),
    slips=(
        Slip("number // 2", "number / 2", "A single / makes 26.0 of 26; // is wanted."),
        Slip("seen = [number]", "seen = []", "The first number was left out."),
    ),
)


def _in_base(number: int, base: int) -> str:
    digits = "0123456789abcdef"
    return (_in_base(number // base, base) if number >= base else "") + digits[number % base]


BASES = Kind(
    name="Number bases",
    about="""\
Read whole numbers, zero or more, one a line. Print each in base $base, one a line, with small
letters for the digits above 9.""",
    how="The rests of the divisions are the digits, the last one first.",
    program="""
import sys


def in_base(number):
    if number == 0:
        return "0"
    digits = ""
    while number > 0:
        digits = "0123456789abcdef"[number % $base] + digits
        number //= $base
    return digits


for line in sys.stdin:
    print(in_base(int(line)))
""",
    sample=lambda dice: "\n".join([*(str(whole(dice, 40, 900)) for _ in range(4)), "0", "500", ""]),
    solve=lambda detail, text: "\n".join(
        _in_base(number, int(detail.split()[1])) for number in _numbers(text)
    ),
    variants=tuple(Variant(f"base {base}", {"base": str(base)}) for base in (2, 3, 5, 7, 12, 16)),
    slips=(
        Slip(
            '    if number == 0:\n        return "0"\n',
            "",
            "Zero has a digit too: it was left empty.",
        ),
        Slip(
            "[number % 12] + digits",
            "[number % 12]",
            "Each digit took the place of those before it.",
        ),
    ),
)


KINDS = (DIVISORS, COLLATZ, BASES)
