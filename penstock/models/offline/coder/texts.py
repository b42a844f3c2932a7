"""Tasks about words and texts."""

import collections
import random

from penstock.models.offline.coder.kinds import Kind, Slip, Variant, shuffled
from penstock.models.offline.coder.words import some_words

# --- Palindromes ------------------------------------------------------------------------------


def _palindrome_sample(dice: random.Random) -> str:
    known = shuffled(
        dice, ["Level", "Never odd or even", "rotor", "A man, a plan, a canal: Panama", "Otto"]
    )
    # One that is longer than every palindrome.
    others = [*some_words(dice, 2), " ".join(some_words(dice, 7))]
    return "\n".join(shuffled(dice, [*known[:3], "Noon", *others])) + "\n"


def _is_palindrome(text: str) -> bool:
    letters = [letter for letter in text.lower() if letter.isalpha()]
    return letters == letters[::-1]


def _palindromes(detail: str, text: str) -> str:
    lines = text.splitlines()
    found = [line for line in lines if _is_palindrome(line)]
    return {
        "yes or no": "\n".join("yes" if line in found else "no" for line in lines),
        "only those": "\n".join(found),
        "how many": str(len(found)),
        "all others": "\n".join(line for line in lines if line not in found),
        "the longest": max(found, key=len),
        "their lengths": "\n".join(str(len(line)) for line in found),
    }[detail]


_EACH = "for line in lines:\n    if is_palindrome(line):\n        print({})"
PALINDROMES = Kind(
    name="Palindromes",
    about="""\
A palindrome reads the same in both directions when only its letters count, and small and capital
letters are the same. Read lines of text and print $what.""",
    how="It keeps the letters, makes them small, and compares them with their reverse.",
    program="""
import sys


def is_palindrome(text):
    letters = [letter for letter in text.lower() if letter.isalpha()]
    return letters == letters[::-1]


lines = sys.stdin.read().splitlines()
$show
""",
    sample=_palindrome_sample,
    solve=_palindromes,
    variants=(
        Variant(
            "yes or no",
            {
                "what": "yes or no for each line",
                "show": 'for line in lines:\n    print("yes" if is_palindrome(line) else "no")',
            },
        ),
        Variant(
            "only those",
            {
                "what": "the lines that are palindromes, as they were read",
                "show": _EACH.format("line"),
            },
        ),
        Variant(
            "how many",
            {
                "what": "how many lines are palindromes",
                "show": "print(sum(is_palindrome(line) for line in lines))",
            },
        ),
        Variant(
            "all others",
            {
                "what": "the lines that are not palindromes, as they were read",
                "show": "for line in lines:\n    if not is_palindrome(line):\n        print(line)",
            },
        ),
        Variant(
            "the longest",
            {
                "what": "the longest line that is a palindrome, the first one of equal length",
                "show": "print(max(filter(is_palindrome, lines), key=len))",
            },
        ),
        Variant(
            "their lengths",
            {
                "what": "the length of each line that is a palindrome, all its signs counted",
                "show": _EACH.format("len(line)"),
            },
        ),
    ),
    slips=(
        Slip("text.lower()", "text", "Noon is one too: capital letters were not made small."),
        Slip("max(filter(is_palindrome, lines)", "max(lines", "It looked at every line."),
    ),
)


# --- Words ------------------------------------------------------------------------------------


def _word_sample(dice: random.Random) -> str:
    words = some_words(dice, 8)
    said = [word for at, word in enumerate(words) for _ in range(max(1, 5 - at))]
    said = shuffled(dice, said)
    said[0] = said[0].capitalize()
    said.append(words[0].upper())
    lines = [" ".join(said[at : at + 6]) for at in range(0, len(said), 6)]
    return ",\n".join(lines) + ".\n"


def _word_counts(detail: str, text: str) -> str:
    words = text.lower().replace(",", " ").replace(".", " ").split()
    counts = collections.Counter(words)
    ordered = sorted((-count, word) for word, count in counts.items())
    most = int(detail.split()[1])
    return "\n".join(f"{word} {-count}" for count, word in ordered[:most])


WORD_COUNTS = Kind(
    name="Word count",
    about="""\
Read a text. Small and capital letters are the same; commas and full stops are no part of a word.
Print the $most words that come up most, each with a space and its count on a line, the most
frequent first, and those of equal count in alphabetical order.""",
    how="It sorts by the negative count first and the word second.",
    program="""
import sys

text = sys.stdin.read().lower()
for sign in ",.":
    text = text.replace(sign, " ")
counts = {}
for word in text.split():
    counts[word] = counts.get(word, 0) + 1
ordered = sorted(counts, key=lambda word: (-counts[word], word))
for word in ordered[:$most]:
    print(word, counts[word])
""",
    sample=_word_sample,
    solve=_word_counts,
    variants=tuple(Variant(f"top {most}", {"most": str(most)}) for most in (3, 4, 5, 6, 7, 2)),
    slips=(
        Slip("sys.stdin.read().lower()", "sys.stdin.read()", "Capital letters made other words."),
        Slip("(-counts[word], word)", "counts[word]", "It began with the rarest words."),
    ),
)


# --- Caesar's cipher --------------------------------------------------------------------------


def _caesar(detail: str, text: str) -> str:
    shift = int(detail.split()[1])
    small, capital = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    turned = small[shift:] + small[:shift] + capital[shift:] + capital[:shift]
    return text.translate(str.maketrans(small + capital, turned)).rstrip("\n")


CAESAR = Kind(
    name="Caesar cipher",
    about="""\
Read lines of text. Print them with each letter of a to z and A to Z moved on by $shift places
in the alphabet, from z on to a again. All other signs stay as they are.""",
    how="A letter is counted from the beginning of its alphabet, moved, and taken modulo 26.",
    program="""
import sys


def turn(letter):
    if "a" <= letter <= "z":
        first = ord("a")
    elif "A" <= letter <= "Z":
        first = ord("A")
    else:
        return letter
    return chr((ord(letter) - first + $shift) % 26 + first)


for line in sys.stdin:
    print("".join(turn(letter) for letter in line.rstrip("\\n")))
""",
    sample=lambda dice: (
        " ".join(some_words(dice, 5)).capitalize() + "!\nZephyr, Vow and Maze: 42\n"
    ),
    solve=_caesar,
    variants=tuple(Variant(f"shift {n}", {"shift": str(n)}) for n in (3, 5, 7, 11, 13, 19)),
    slips=(
        Slip(
            "(ord(letter) - first + 5) % 26 + first",
            "ord(letter) + 5",
            "It went past z, because nothing was taken modulo 26.",
        ),
        Slip(
            "for line in sys.stdin:\n"
            '    print("".join(turn(letter) for letter in line.rstrip("\\n")))',
            'print("".join(turn(letter) for letter in input()))',
            "It read only one line.",
        ),
    ),
)


# --- Wrapped text -----------------------------------------------------------------------------


def _wrapped(detail: str, text: str) -> str:
    width = int(detail.split()[1])
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)


def _wrap_sample(dice: random.Random) -> str:
    words = [*some_words(dice, 12), *some_words(dice, 12)]
    return " ".join([*words, *some_words(dice, 6)]) + "\n"


WRAPPING = Kind(
    name="Wrapped text",
    about="""\
Read words and print them in lines of at most $width signs, with one space between the words of a
line. Each line takes as many words as fit. No word is longer than that.""",
    how="A word goes on the line when both and a space fit; else it begins a new one.",
    program="""
import sys

line = ""
for word in sys.stdin.read().split():
    if line and len(line) + 1 + len(word) > $width:
        print(line)
        line = word
    else:
        line = f"{line} {word}" if line else word
print(line)
""",
    sample=_wrap_sample,
    solve=_wrapped,
    variants=tuple(
        Variant(f"width {width}", {"width": str(width)}) for width in (16, 20, 24, 28, 32, 40)
    ),
    slips=(
        Slip("        line = f", "        line += f", "It put the line so far there once more."),
        Slip(
            '    else:\n        line = f"{line} {word}" if line else word\nprint(line)',
            '    else:\n        line = f"{line} {word}" if line else word',
            "The last line was never printed.",
        ),
    ),
)


KINDS = (PALINDROMES, WORD_COUNTS, CAESAR, WRAPPING)
