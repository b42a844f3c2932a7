"""Tasks about numbers."""

import itertools
import math
import random

from penstock.models.offline.coder.kinds import Kind, Slip, Variant, shuffled, whole


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split()]


# --- Sums -------------------------------------------------------------------------------------


def _sum_sample(dice: random.Random) -> str:
    drawn = [str(whole(dice, 20, 99)) for _ in range(whole(dice, 3, 6))]
    lines = shuffled(dice, [*drawn, "-7", "-2", "24", "36", "45", "63", "81"])
    return "\n".join([*lines[:4], "", *lines[4:]]) + "\n"


_SUM_TESTS = {
    "even": lambda n: not n & 1,
    "odd": lambda n: bool(n & 1),
    "divisible by 3": lambda n: n % 3 == 0,
    "negative": lambda n: n < 0,
    "greater than 50": lambda n: n > 50,
    "not negative": lambda n: n >= 0,
}

SUMS = Kind(
    name="Sum of numbers",
    about="""\
Read whole numbers, one a line; some lines are empty and do not count. Print the sum of those
numbers that are $which.""",
    how="It splits the whole input at white space, so that empty lines do not matter.",
    program="""
import sys

numbers = [int(word) for word in sys.stdin.read().split()]
print(sum(number for number in numbers if $test))
""",
    sample=_sum_sample,
    solve=lambda detail, text: str(sum(filter(_SUM_TESTS[detail], _numbers(text)))),
    variants=(
        Variant("even", {"which": "even", "test": "number % 2 == 0"}),
        Variant("odd", {"which": "odd", "test": "number % 2 == 1"}),
        Variant("divisible by 3", {"which": "divisible by 3", "test": "number % 3 == 0"}),
        Variant("negative", {"which": "negative", "test": "number < 0"}),
        Variant("greater than 50", {"which": "greater than 50", "test": "number > 50"}),
        Variant("not negative", {"which": "not negative", "test": "number >= 0"}),
    ),
    slips=(
        Slip(
            "int(word) for word in sys.stdin.read().split()",
            "int(line) for line in sys.stdin",
            "An empty line is no number, and int() raised ValueError.",
        ),
        Slip("sum(number for", "sum(1 for", "It counted the numbers and did not add them."),
    ),
)


# --- Fizz-buzz --------------------------------------------------------------------------------


def _fizz(detail: str, text: str) -> str:
    three, five = (int(word) for word in detail.split(" and "))
    said = []
    for n in range(1, int(text) + 1):
        word = "Fizz" * (n % three == 0) + "Buzz" * (n % five == 0)
        said.append(word or str(n))
    return "\n".join(said)


def _pair(three: int, five: int) -> Variant:
    return Variant(f"{three} and {five}", {"three": str(three), "five": str(five)})


FIZZ_BUZZ = Kind(
    name="Fizz-buzz",
    about="""\
Read a number n. For each number from 1 to n print a line: Fizz when it is divisible by $three, Buzz
when it is divisible by $five, FizzBuzz when it is divisible by both, else the number itself.""",
    how="Both words are put together, so that divisible by both needs no case of its own.",
    program="""
limit = int(input())
for number in range(1, limit + 1):
    word = ""
    if number % $three == 0:
        word += "Fizz"
    if number % $five == 0:
        word += "Buzz"
    print(word or number)
""",
    sample=lambda dice: f"{whole(dice, 35, 45)}\n",
    solve=_fizz,
    variants=tuple(_pair(*two) for two in ((3, 5), (2, 7), (3, 7), (4, 6), (5, 7), (2, 5))),
    slips=(
        Slip("range(1, limit + 1)", "range(1, limit)", "It was off by one: n itself was left out."),
        Slip(
            '    if number % 7 == 0:\n        word += "Buzz"',
            '    elif number % 7 == 0:\n        word += "Buzz"',
            "With elif a number divisible by both was only Fizz.",
        ),
    ),
)


# --- Primes -----------------------------------------------------------------------------------


def _primes_up_to(limit: int) -> list[int]:
    return [n for n in range(2, limit + 1) if all(n % d for d in range(2, math.isqrt(n) + 1))]


def _primes(detail: str, text: str) -> str:
    primes = _primes_up_to(int(text))
    shown: dict[str, object] = {
        "all of them": " ".join(map(str, primes)),
        "how many": len(primes),
        "their sum": sum(primes),
        "the largest": primes[-1],
        "the last three": " ".join(map(str, primes[-3:])),
        "the widest gap": max(b - a for a, b in itertools.pairwise(primes)),
    }
    return str(shown[detail])


PRIMES = Kind(
    name="Prime sieve",
    about="Read a number n, at least 10. Of the prime numbers up to and including n print $what.",
    how="The sieve of Eratosthenes: multiples of a prime are crossed out from its square on.",
    program="""
limit = int(input())
is_prime = [False, False] + [True] * (limit - 1)
for number in range(2, int(limit**0.5) + 1):
    if is_prime[number]:
        for multiple in range(number * number, limit + 1, number):
            is_prime[multiple] = False
primes = [number for number in range(2, limit + 1) if is_prime[number]]
print($shown)
""",
    # A prime square comes just before a prime limit, so that both slips show in every variant.
    sample=lambda dice: f"{(53, 127, 173, 293)[whole(dice, 0, 3)]}\n",
    solve=_primes,
    variants=(
        Variant("all of them", {"what": "all, on one line with spaces", "shown": "*primes"}),
        Variant("how many", {"what": "how many there are", "shown": "len(primes)"}),
        Variant("their sum", {"what": "the sum", "shown": "sum(primes)"}),
        Variant("the largest", {"what": "the largest", "shown": "primes[-1]"}),
        Variant(
            "the last three",
            {"what": "the last three, on one line with spaces", "shown": "*primes[-3:]"},
        ),
        Variant(
            "the widest gap",
            {
                "what": "the widest gap between two that follow each other",
                "shown": "max(b - a for a, b in zip(primes, primes[1:]))",
            },
        ),
    ),
    slips=(
        Slip(
            "int(limit**0.5) + 1)",
            "int(limit**0.5))",
            "The range ended before the root of n, so a square of a prime was left standing.",
        ),
        Slip(
            "range(2, limit + 1) if",
            "range(2, limit) if",
            "It was off by one: n itself is a prime here and was left out.",
        ),
    ),
)


# --- Roman numerals ---------------------------------------------------------------------------


def _roman(number: int) -> str:
    ones = ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")
    tens = ones[number // 10 % 10].translate(str.maketrans("IVX", "XLC"))
    hundreds = ones[number // 100 % 10].translate(str.maketrans("IVX", "CDM"))
    return "M" * (number // 1000) + hundreds + tens + ones[number % 10]


def _romans(detail: str, text: str) -> str:
    numbers = _numbers(text)
    written = [_roman(number) for number in numbers]
    return {
        "a line each": "\n".join(written),
        "with the number": "\n".join(f"{n} = {w}" for n, w in zip(numbers, written, strict=True)),
        "in small letters": "\n".join(written).lower(),
        "with commas": ", ".join(written),
        "how many letters": "\n".join(str(len(one)) for one in written),
        "their sum": _roman(sum(numbers)),
    }[detail]


_ROMAN_FOUR = '    (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),\n'
ROMANS = Kind(
    name="Roman numerals",
    about="Read whole numbers from 1 to 999, one a line. Print $what.",
    how="The values stand from large to small, those that subtract among them.",
    program=f"""
import sys

VALUES = [
    (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"),
    (100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"),
{_ROMAN_FOUR.rstrip()}
]


def roman(number):
    written = ""
    for value, letters in VALUES:
        while number >= value:
            written += letters
            number -= value
    return written


numbers = [int(word) for word in sys.stdin.read().split()]
$show
""",
    sample=lambda dice: "\n".join(
        [str(10 * whole(dice, 1, 30) + 4), *(str(whole(dice, 1, 199)) for _ in range(3)), "90", ""]
    ),
    solve=_romans,
    variants=(
        Variant(
            "a line each",
            {
                "what": "each as a Roman numeral, one a line",
                "show": "for number in numbers:\n    print(roman(number))",
            },
        ),
        Variant(
            "with the number",
            {
                "what": "each with its Roman numeral, such as 4 = IV, one a line",
                "show": 'for number in numbers:\n    print(number, "=", roman(number))',
            },
        ),
        Variant(
            "in small letters",
            {
                "what": "each as a Roman numeral in small letters, one a line",
                "show": "for number in numbers:\n    print(roman(number).lower())",
            },
        ),
        Variant(
            "with commas",
            {
                "what": "all as Roman numerals on one line, with a comma and a space between",
                "show": 'print(", ".join(roman(number) for number in numbers))',
            },
        ),
        Variant(
            "how many letters",
            {
                "what": "how many letters each has as a Roman numeral, one a line",
                "show": "for number in numbers:\n    print(len(roman(number)))",
            },
        ),
        Variant(
            "their sum",
            {
                "what": "the sum of all as one Roman numeral",
                "show": "print(roman(sum(numbers)))",
            },
        ),
    ),
    slips=(
        Slip(
            _ROMAN_FOUR,
            '    (9, "IX"), (5, "V"), (1, "I"),\n',
            "IV was missing among the values, so 4 was written IIII.",
        ),
        Slip(
            "while number >= value",
            "while number > value",
            "At the value itself > stops too early.",
        ),
    ),
)


KINDS = (SUMS, FIZZ_BUZZ, PRIMES, ROMANS)
