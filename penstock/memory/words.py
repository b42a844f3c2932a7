"""Hashed words: a vector for a small programming task, by its words alone.

Words without stop words, stemmed lightly, synonyms of the trade made one, and the n-grams of their
letters, so that a misspelt or inflected word is still near. Each feature is hashed to a place and
a sign ("feature hashing", Weinberger and others, 2009), and counts 1 + log of how often it occurs.
A change of anything here needs a new name in `embeddings.LOCAL`, because it gives other vectors.
"""

import functools
import hashlib
import itertools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

#: Length of a vector. A task has about 80 features; at 512 it showed that some shared a place, and
#: 4,096 finds hardly more than this.
DIMENSION = 768
#: What a word, two words in a row, and all n-grams of a word count.
WORD, PAIR, GRAMS = 1.0, 0.4, 0.5
#: What a word counts that half of all tasks have: 'list', 'number', 'string', 'n', '1'.
COMMON = 0.35

#: What says nothing about the task: grammar, and the words in which every task is given.
STOP = """
a about above after all also an and any are as at be been before below both but by can could do
does doing down each either else every for from further given gives giving had has have how i if
in into is it its itself just let like me more most must my need needs no not of off on once one
only onto or other our out over own please same shall should so some such than that the their
them then there these they this those through to too until up upon us use used uses using very
want was we were what when where which while who whose why will with within without would you
your answer build calculate check code coding compute create decide define design determine
develop display example expected find finding finds found function give implement implementation
implements input make makes method output outputs print prints problem produce program provide
python read reads reading receive result return returned returning returns script show simple
small snippet solution solve standard stdin stdout take takes task tell test whether work works
write writes writing
"""
#: The kinds of thing that tasks are about, and what is done with most. One line, one word.
KINDS = """
list array sequence collection item element entry vector
string text str
number integer int value float numeric
line row
convert transform turn change translate
"""
#: What programmers call by several names. One line, one word.
SYNONYMS = """
sum add total plus addition accumulate
product multiply multiplication
difference subtract subtraction minus
reverse backwards backward flip invert
maximum max largest biggest greatest highest
minimum min smallest lowest least
average mean
count tally occurrence frequency often many histogram
remove delete drop strip eliminate discard exclude omit
duplicate repeated repeat dedupe deduplicate unique distinct twice
sort order arrange rank ascending
search locate lookup
merge combine join concatenate concat
split separate tokenize chunk divide
character letter char
uppercase capital capitalize upper
lowercase lower
dictionary dict map mapping hashmap
word term
sentence phrase paragraph
power exponent exponentiation
square squared
bracket parenthesis parentheses brace
balanced matching matched
blank whitespace space
common shared intersection
rotate shift
swap exchange
matrix grid
parse load
valid verify validate
email mail
longest longer
random arbitrary
error exception
even pair
divisible multiple
divisor factor
position index
keep filter select retain pick
nested flatten flat
date day
"""
#: What is written short.
SHORT = {
    "gcd": "greatest common divisor",
    "hcf": "greatest common divisor",
    "lcm": "least common multiple",
    "fib": "fibonacci",
    "avg": "average",
    "freq": "frequency",
    "num": "number",
    "nums": "number",
    "chars": "character",
    "vals": "value",
}
ENDINGS: tuple[str, ...] = ("ization", "isation", "ations", "ation", "ings", "ing", "ions", "ion")
ENDINGS += ("ers", "er", "edly", "ed", "es", "als", "al", "ics", "ic", "ly", "ate", "s")
#: Letters or digits; an identifier falls apart at underscores and at its capitals.
TOKEN = re.compile(r"[^\W_]+")
CAPITALS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def hashed_words(text: str) -> list[float]:
    """The vector of `text`: DIMENSION numbers of length one, the same for the same text always."""
    vector = [0.0] * DIMENSION
    for feature, weight in _features(text).items():
        slot, sign = _slot(feature)
        vector[slot] += sign * weight
    length = math.hypot(*vector)
    if not length:
        # Nothing to hash, or two features that cancel each other: a place of its own.
        vector[0] = length = 1.0
    return [value / length for value in vector]


def stem(word: str) -> str:
    """`word` without its inflexion: 'reversed', 'reverses' and 'reverse' are one."""
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif not word.endswith(("ss", "us", "is")):
        for ending in ENDINGS:
            if word.endswith(ending) and len(word) - len(ending) >= 3:
                word = word.removesuffix(ending)
                break
    if len(word) > 3:
        word = word.removesuffix("e")
    if word.endswith("y"):
        word = word[:-1] + "i"
    # 'adding' has left 'add', and so has 'add' to be the same.
    return word[:-1] if len(word) > 2 and word[-1] == word[-2] else word


def _words(text: str) -> list[str]:
    """The words that say what `text` is about; all of them when it has no such words."""
    text = CAPITALS.sub(" ", unicodedata.normalize("NFKC", text)).casefold()
    text = TOKEN.sub(lambda found: SHORT.get(found[0], found[0]), text)
    words = TOKEN.findall(text)
    return [word for word in words if word not in _stop()] or words


def _features(text: str) -> dict[str, float]:
    """What is hashed of `text`, and how much each counts."""
    words = [_one_word(stem(word)) for word in _words(text)]
    weights: dict[str, float] = {}
    for word, times in Counter(words).items():
        weights[f"w {word}"] = (COMMON if _is_common(word) else WORD) * (1 + math.log(times))
    for pair, times in Counter(itertools.pairwise(words)).items():
        if not all(_is_common(word) for word in pair):
            weights[f"p {pair[0]} {pair[1]}"] = PAIR * (1 + math.log(times))
    # In the text's order: a set has another one in every process, and sums of floats with it.
    for word in dict.fromkeys(words):
        if _is_common(word):
            continue
        grams = list(_grams(word))
        for gram in grams:
            key = f"g {gram}"
            weights[key] = weights.get(key, 0.0) + GRAMS / math.sqrt(len(grams))
    return weights


def _grams(word: str) -> Iterator[str]:
    """Three and four letters in a row, with the word's ends marked."""
    marked = f"<{word}>"
    for size in (3, 4):
        for start in range(len(marked) - size + 1):
            yield marked[start : start + size]


def _one_word(stemmed: str) -> str:
    return _synonyms().get(stemmed, stemmed)


@functools.cache
def _synonyms() -> dict[str, str]:
    """The first word of its line, for each stem of a line."""
    table: dict[str, str] = {}
    for line in (KINDS + SYNONYMS).split("\n"):
        stems = [stem(word) for word in line.split()]
        for each in stems:
            table.setdefault(each, stems[0])
    return table


def _is_common(word: str) -> bool:
    return word in _kinds() or (len(word) == 1 and word.isascii())


@functools.cache
def _stop() -> frozenset[str]:
    return frozenset(STOP.split())


@functools.cache
def _kinds() -> frozenset[str]:
    return frozenset(stem(line.split()[0]) for line in KINDS.split("\n") if line)


@functools.lru_cache(maxsize=50_000)
def _slot(feature: str) -> tuple[int, float]:
    # Not hash(), which is another one in every process.
    digest = hashlib.blake2b(feature.encode("utf-8", "replace"), digest_size=8).digest()
    number = int.from_bytes(digest, "big")
    return number % DIMENSION, 1.0 if number >> 63 else -1.0
