"""Tasks about letters and signs."""

import collections
import itertools
import random

from penstock.models.offline.coder.kinds import Kind, Slip, Variant, shuffled, whole
from penstock.models.offline.coder.words import some_words

# --- Run-length code --------------------------------------------------------------------------

_RUN_FORMS = {
    "a3b1c2": ("{0}{1}", ""),
    "3a1b2c": ("{1}{0}", ""),
    "a*3 b*1 c*2": ("{0}*{1}", " "),
    "a3 b1 c2": ("{0}{1}", " "),
    "3xa 1xb 2xc": ("{1}x{0}", " "),
    "a3 b c2": ("{0}{1}", " "),
}


def _runs(detail: str, text: str) -> str:
    example = detail.removeprefix("such as ")
    form, between = _RUN_FORMS[example]
    said = []
    for line in text.split():
        runs = [(letter, len(list(same))) for letter, same in itertools.groupby(line)]
        pieces = [form.format(*run) for run in runs]
        if example == "a3 b c2":
            pieces = [letter if count == 1 else f"{letter}{count}" for letter, count in runs]
        said.append(between.join(pieces))
    return "\n".join(said)


def _run_sample(dice: random.Random) -> str:
    lines = []
    for _ in range(whole(dice, 3, 4)):
        letters = shuffled(dice, list("abcdk"))
        lines.append("".join(letter * whole(dice, 1, 5) for letter in letters) + letters[0] * 2)
    return "\n".join(lines) + "\n"


def _code(example: str, piece: str, between: str) -> Variant:
    return Variant(f"such as {example}", {"example": example, "piece": piece, "between": between})


RUN_LENGTHS = Kind(
    name="Run-length code",
    about="""\
Read lines of small letters. Print each line as its runs of equal letters, each run as letter and
count in this form: aaabcc becomes $example.""",
    how="It counts on while the letter stays the same, and writes a run down when it changes.",
    program="""
import sys


def write(letter, count):
    return $piece


for line in sys.stdin:
    line = line.strip()
    runs = []
    count = 0
    for at, letter in enumerate(line):
        count += 1
        if at + 1 == len(line) or line[at + 1] != letter:
            runs.append(write(letter, count))
            count = 0
    print("$between".join(runs))
""",
    sample=_run_sample,
    solve=_runs,
    variants=(
        _code("a3b1c2", 'f"{letter}{count}"', ""),
        _code("3a1b2c", 'f"{count}{letter}"', ""),
        _code("a*3 b*1 c*2", 'f"{letter}*{count}"', " "),
        _code("a3 b1 c2", 'f"{letter}{count}"', " "),
        _code("3xa 1xb 2xc", 'f"{count}x{letter}"', " "),
        _code("a3 b c2", 'f"{letter}{count}" if count > 1 else letter', " "),
    ),
    slips=(
        Slip("line = line.strip()", "pass", "The end of the line was not stripped and counted."),
        Slip("            count = 0\n", "            count = 1\n", "It began each run with 1."),
    ),
)


# --- Anagrams ---------------------------------------------------------------------------------

_ANAGRAMS = (
    ("listen", "silent", "enlist"),
    ("stone", "notes", "onset"),
    ("heart", "earth"),
    ("night", "thing"),
    ("dusty", "study"),
)


def _anagram_sample(dice: random.Random) -> str:
    words = [*_ANAGRAMS[0], *_ANAGRAMS[whole(dice, 2, 4)], *some_words(dice, 2)]
    return "\n".join(shuffled(dice, words)) + "\n"


def _anagrams(detail: str, text: str) -> str:
    words = text.split()
    groups: dict[frozenset[tuple[str, int]], list[str]] = {}
    for word in words:
        groups.setdefault(frozenset(collections.Counter(word).items()), []).append(word)
    lists = sorted(sorted(group) for group in groups.values())
    several = [group for group in lists if len(group) > 1]
    return {
        "all groups": "\n".join(" ".join(group) for group in lists),
        "groups of two or more": "\n".join(" ".join(group) for group in several),
        "how many groups": str(len(lists)),
        "words without one": "\n".join(group[0] for group in lists if len(group) == 1),
        "sizes of groups": " ".join(str(len(group)) for group in lists),
        "first of each group": " ".join(group[0] for group in lists),
    }[detail]


_EACH_GROUP = "for group in groups:\n    {}print({})"
ANAGRAMS = Kind(
    name="Anagram groups",
    about="""\
Read words in small letters, one a line. Words with the same letters are a group. The words of a
group stand in alphabetical order, and so do the groups by their first words. Print $what.""",
    how="The sorted letters of a word are the key of its group.",
    program="""
import sys

by_letters = {}
for word in sys.stdin.read().split():
    key = "".join(sorted(word))
    by_letters.setdefault(key, []).append(word)
groups = sorted(sorted(group) for group in by_letters.values())
$show
""",
    sample=_anagram_sample,
    solve=_anagrams,
    variants=(
        Variant(
            "all groups",
            {
                "what": "each group on a line, with spaces between its words",
                "show": _EACH_GROUP.format("", "*group"),
            },
        ),
        Variant(
            "groups of two or more",
            {
                "what": "each group of two words or more on a line, with spaces between its words",
                "show": _EACH_GROUP.format("if len(group) > 1:\n        ", "*group"),
            },
        ),
        Variant(
            "how many groups",
            {"what": "how many groups there are", "show": "print(len(groups))"},
        ),
        Variant(
            "words without one",
            {
                "what": "the words that are alone in their group, one a line",
                "show": _EACH_GROUP.format("if len(group) == 1:\n        ", "group[0]"),
            },
        ),
        Variant(
            "sizes of groups",
            {
                "what": "the number of words of each group, on one line with spaces",
                "show": "print(*[len(group) for group in groups])",
            },
        ),
        Variant(
            "first of each group",
            {
                "what": "the first word of each group, on one line with spaces",
                "show": "print(*[group[0] for group in groups])",
            },
        ),
    ),
    slips=(
        Slip("len(group) > 1", "len(group) > 2", "A group of two was left out: > where >= is."),
        Slip('"".join(sorted(word))', "word[0]", "It grouped by the first letter only."),
    ),
)


# --- Brackets ---------------------------------------------------------------------------------


_PAIRS = ("()", "[]", "{}", "<>")


def _balanced(detail: str, text: str) -> str:
    pairs = [pair for pair in _PAIRS if pair in detail or detail == "all four"]
    signs = "".join(pairs)
    said = []
    for line in text.splitlines():
        left = "".join(sign for sign in line if sign in signs)
        while any(pair in left for pair in pairs):
            for pair in pairs:
                left = left.replace(pair, "")
        said.append("unbalanced" if left else "balanced")
    return "\n".join(said)


def _bracket_sample(dice: random.Random) -> str:
    lines = ["(a[b]<c>{d})", "(a <b)> {[c}]", "([{<x", "x)>}]", "", "{[(<>)]}"]
    more = ["".join(shuffled(dice, list("(){}[]<>ab"))) for _ in range(2)]
    return "\n".join(["a(b)c", *shuffled(dice, [*lines, *more]), "<[{(z"]) + "\n"


def _signs(detail: str, *pairs: str) -> Variant:
    shown = " ".join(pairs)
    closing = "{" + ", ".join(f'"{pair[1]}": "{pair[0]}"' for pair in pairs) + "}"
    return Variant(detail, {"pairs": shown, "closing": closing})


BRACKETS = Kind(
    name="Balanced brackets",
    about="""\
Read lines of text. For each line print balanced when every bracket of $pairs in it is closed by its
own partner in the right order, else unbalanced. All other signs do not matter.""",
    how="Open brackets go on a stack; each closing one must meet its partner on top.",
    program="""
import sys

PARTNER = $closing


def is_balanced(line):
    stack = []
    for sign in line:
        if sign in PARTNER.values():
            stack.append(sign)
        elif sign in PARTNER:
            if not stack or stack.pop() != PARTNER[sign]:
                return False
    return not stack


for line in sys.stdin.read().splitlines():
    print("balanced" if is_balanced(line) else "unbalanced")
""",
    sample=_bracket_sample,
    solve=_balanced,
    variants=(
        _signs("() alone", "()"),
        _signs("() with []", "()", "[]"),
        _signs("(), [] and {}", "()", "[]", "{}"),
        _signs("<> with []", "<>", "[]"),
        _signs("{} with []", "{}", "[]"),
        _signs("all four", *_PAIRS),
    ),
    slips=(
        Slip("return not stack", "return True", "What was never closed was called balanced."),
        Slip(
            "not stack or stack.pop()",
            "stack.pop()",
            "A closing bracket met an empty stack: IndexError.",
        ),
    ),
)


KINDS = (RUN_LENGTHS, ANAGRAMS, BRACKETS)
