"""The memory's parts: vectors of words, notes that wait on the disk, names and refusals."""

import asyncio
import logging
import pathlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator

import pytest

from penstock.errors import SettingsError, Unavailable
from penstock.memory.embeddings import LOCAL, LocalEmbeddings, ProviderEmbeddings, choose
from penstock.memory.outbox import Outbox
from penstock.memory.points import Points, collections
from penstock.memory.words import DIMENSION, hashed_words, stem
from penstock.models.gate import Gates
from penstock.record.notes import LONGEST, Note, clean
from penstock.settings import Settings
from penstock.signals import Signals
from penstock.worker.clients import Clients

#: A small programming task, and the same in other words.
REWORDED = [
    ("Reverse the characters of a string", "Turn a text around so that it reads backwards"),
    ("Return the sum of all numbers in a list", "Add up every integer of an array"),
    ("Find the largest number in a list", "What is the maximum of these integers?"),
    ("Count the vowels in a sentence", "How many vowels does a given text contain?"),
    ("Check whether a word is a palindrome", "Is this string palindromic?"),
    ("Remove duplicates from a list", "Drop repeated items of an array, keep only unique ones"),
    ("Compute the n-th Fibonacci number", "Write fib(n)"),
    ("Calculate the factorial of a number", "Multiply all integers from 1 to n (factorials)"),
    ("Check if a number is prime", "Write is_prime(n), true for primes only"),
    ("Sort words by their length", "Order strings from shortest to longest word length"),
    ("Find the greatest common divisor of two integers", "Implement gcd(a, b)"),
    ("Convert Celsius to Fahrenheit", "Change degrees Celsius into degrees Fahrenheit"),
    ("Merge two sorted lists into one", "Combine a pair of ordered arrays, sorted"),
    ("Count how often each word occurs in a text", "Build a dictionary of word frequencies"),
    ("Check whether brackets are balanced", "Are all parentheses matched and nested?"),
    ("Convert an integer to Roman numerals", "Write a number as a roman numeral"),
    ("Flatten a nested list", "Turn a list of lists, at any depth, into one flat array"),
    ("Transpose a matrix", "Swap the rows and columns of a grid (matrix transposition)"),
    ("Decide whether two words are anagrams", "Is one string an anagram of another?"),
    (
        "Parse a CSV line with quoted fields",
        "Split comma separated values, perhaps in quotes (CSV)",
    ),
    ("Determine whether a year is a leap year", "Is February 29 days long: leap years"),
    ("Encrypt a text with the Caesar cipher", "Shift letters by k places, Caesar's encryption"),
]
MORE = [
    ("Compute the median of a list of numbers", "Find the middle value of sorted integers: median"),
    ("Generate all permutations of a string", "List every permutation of some characters"),
    ("Rotate a list to the right by k places", "Shift the elements of an array k steps right"),
    ("Find the intersection of two sets", "Which items do both collections have in common?"),
    ("Validate an email address", "Is this a valid e-mail?"),
    ("Binary search in a sorted list", "Look up a value in an ordered array by binary searching"),
    ("Capitalize the first letter of every word", "Make each word begin with an uppercase letter"),
    ("Sum the digits of an integer", "Add the digits of a number together"),
    ("Find the longest common prefix of strings", "Shared prefix of all words in a list"),
    ("Group words that are anagrams", "Put anagrams of each other into one group"),
    ("Convert a hexadecimal string to decimal", "Hexadecimal to decimal conversion"),
    ("Find the second largest element", "Second biggest value of an array"),
    ("Compress a string by run-length encoding", "Run length encode text such as aaabb"),
    ("Count the islands in a grid", "How many islands are on a map of land and water?"),
    ("Implement a stack with push and pop", "A stack class: pushing, popping, peeking"),
]
#: Written after the lists of penstock/memory/words.py, which were not changed for them.
LATER = [
    (
        "Evaluate an arithmetic expression in postfix notation",
        "Compute the value of a reverse Polish (postfix) expression",
    ),
    ("Convert seconds to hours, minutes and seconds", "Format a duration in seconds as HH:MM:SS"),
    ("Find missing numbers in a sequence from 1 to n", "Which number is missing from the array?"),
    (
        "Check a password for its strength",
        "Is this password strong enough: length, digits, symbols",
    ),
    ("Simulate the rolling of two dice", "Roll a pair of dice many times and report what came up"),
    ("Compute Pascal's triangle up to row n", "Print the first rows of the triangle of Pascal"),
    (
        "Find the shortest path in an unweighted graph",
        "Breadth-first search for the shortest route between two nodes of a graph",
    ),
    ("Implement a queue using two stacks", "A FIFO queue built out of two LIFO stacks"),
    (
        "Calculate the area of a triangle from its sides",
        "Heron's formula: the triangle's area, given three side lengths",
    ),
    ("Translate a sentence into Pig Latin", "Pig latin translator for English words"),
    ("Count the lines and words of a file", "How many words and lines are there in a document?"),
    (
        "Find all primes below n with a sieve",
        "Sieve of Eratosthenes: list the prime numbers up to a limit",
    ),
    ("Remove all punctuation from a text", "Strip punctuation characters out of a string"),
    (
        "Compute compound interest",
        "How much money is there after n years with interest that compounds?",
    ),
    (
        "Convert a string from snake_case to camelCase",
        "Turn snake case identifiers into camel case",
    ),
]


def likeness(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def astray(pairs: list[tuple[str, str]]) -> list[str]:
    """The rewordings that are nearer to another task than to their own."""
    tasks = {task: hashed_words(task) for task, _ in pairs}
    vectors = [(task, again, hashed_words(again)) for task, again in pairs]
    return [
        again
        for task, again, vector in vectors
        if max(tasks, key=lambda each: likeness(tasks[each], vector)) != task
    ]


@pytest.mark.parametrize("pairs", [REWORDED, MORE, LATER], ids=["first", "more", "later"])
def test_a_reworded_task_is_nearer_to_its_own_than_to_any_other(pairs):
    assert astray(pairs) == []


def test_the_floor_lies_under_every_rewording_and_above_what_is_of_something_else():
    vectors = [[hashed_words(text) for text in pair] for pair in REWORDED + MORE + LATER]
    own = [likeness(task, again) for task, again in vectors]
    others = [likeness(one[0], other[1]) for one in vectors for other in vectors if one != other]
    assert min(own) >= LocalEmbeddings.floor
    assert sum(score >= LocalEmbeddings.floor for score in others) <= 0.03 * len(others)


def test_words_are_not_meanings_a_few_go_astray_among_many():
    """Counting the words of a file is near to counting each word of a text."""
    assert len(astray(REWORDED + MORE + LATER)) <= 5


def test_a_vector_is_the_same_in_every_process_and_has_length_one():
    text = "Convert an integer to Roman numerals, XIV for 14"
    program = f"from penstock.memory.words import hashed_words; print(hashed_words({text!r}))"
    root = pathlib.Path(__file__).parents[2]
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == str(hashed_words(text))
    assert likeness(hashed_words(text), hashed_words(text)) == pytest.approx(1.0)


@pytest.mark.parametrize("text", ["", " \n", "?!", "a", "write a program", "日本語の文", "\ud800"])
def test_any_text_has_a_vector(text):
    vector = hashed_words(text)
    assert len(vector) == DIMENSION
    assert likeness(vector, vector) == pytest.approx(1.0)


def test_inflections_have_one_stem():
    assert {stem(word) for word in ("reverse", "reversed", "reversing", "reversal")} == {"revers"}
    assert stem("frequencies") == stem("frequency")
    assert stem("adding") == stem("add")


def test_without_a_model_the_embeddings_are_local_and_say_so():
    for text in ("", "local", LOCAL):
        embeddings = choose(Settings(embeddings=text))
        assert isinstance(embeddings, LocalEmbeddings) and embeddings.label == LOCAL


def test_embeddings_of_a_provider_are_named_as_its_models_are():
    embeddings = choose(Settings(embeddings="ollama/nomic-embed-text"))
    assert isinstance(embeddings, ProviderEmbeddings)
    assert embeddings.label == "ollama/nomic-embed-text"


@pytest.mark.parametrize("text", ["offline", "olama/x", "openai/m", "ollama/", "mistral/m"])
def test_a_name_that_leads_nowhere_is_refused_with_the_setting(text):
    with pytest.raises(SettingsError, match=r"^PENSTOCK_EMBEDDINGS"):
        choose(Settings(embeddings=text))


@pytest.mark.parametrize("url", ["store:6333", "localhost:6333", "http://", "http://x:y", "[::"])
def test_an_address_of_qdrant_that_is_none_is_refused(url):
    with pytest.raises(SettingsError, match=r"^QDRANT_URL="):
        Points(Settings(qdrant_url=url))


def test_each_model_and_dimension_has_collections_of_its_own():
    labels = [("a/b", 8), ("a:b", 8), ("a/b", 9), ("ollama/nomic-embed-text", 768), (LOCAL, 512)]
    names = [name for label in labels for name in collections("penstock", *label).values()]
    assert len(set(names)) == 3 * len(labels)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-") for name in names)


def test_importing_the_memory_imports_neither_qdrant_nor_numpy_nor_the_sdk():
    program = (
        "import sys, app, penstock.memory\n"
        "print([name for name in ('qdrant_client', 'numpy', 'openai') if name in sys.modules])"
    )
    root = pathlib.Path(__file__).parents[2]
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "[]"


def test_a_long_text_is_cut_and_half_a_surrogate_pair_is_replaced():
    assert clean("x" * (LONGEST + 5)).endswith("x…")
    assert clean("a\ud83db") == "a\ufffdb"


# The outbox.


def note(number: int, lesson: str = "mind the end", kind: str = "failure") -> Note:
    return Note(f"event-{number}", kind, f"task {number}", lesson, 1.5 * number)  # type: ignore[arg-type]


@pytest.fixture
def outbox(tmp_path: pathlib.Path) -> Iterator[Outbox]:
    opened = Outbox(tmp_path / "memory" / "outbox.db", most=5)
    yield opened
    opened.close()


def test_notes_wait_in_their_order_until_they_are_removed(outbox, tmp_path):
    for number in range(3):
        assert outbox.put(note(number)) == number + 1
    again = Outbox(outbox.path, most=5)  # as another process sees them
    assert [each for _, each in again.first(2)] == [note(0), note(1)]
    assert again.remove([number for number, _ in again.first(2)]) == 1
    again.close()
    assert [each for _, each in outbox.first(9)] == [note(2)]


def test_a_note_that_is_remembered_again_is_one_note_with_the_last_lesson(outbox):
    outbox.put(note(1))
    outbox.put(note(2))
    assert outbox.put(note(1, "another")) == 2
    assert [each for _, each in outbox.first(9)] == [note(2), note(1, "another")]


def test_a_note_that_is_replaced_while_it_is_delivered_stays(outbox):
    outbox.put(note(1))
    [(number, _)] = outbox.first(1)
    outbox.put(note(1, "newer"))
    assert outbox.remove([number]) == 1
    assert [each.lesson for _, each in outbox.first(1)] == ["newer"]


def test_too_many_notes_cost_the_oldest_and_are_said_once_until_it_is_empty(outbox, caplog):
    with caplog.at_level(logging.ERROR):
        for number in range(8):
            outbox.put(note(number))
        assert [each.id for _, each in outbox.first(9)] == [f"event-{n}" for n in range(3, 8)]
        assert outbox.dropped == 3
        assert len(caplog.records) == 1
        assert "5 notes wait" in caplog.text and "PENSTOCK_MEMORY_NOTES" in caplog.text
        assert outbox.remove([number for number, _ in outbox.first(9)]) == 0
        for number in range(6):
            outbox.put(note(number))
    assert len(caplog.records) == 2


def test_a_refused_note_is_kept_and_tried_when_the_outbox_is_opened_anew(outbox):
    outbox.put(note(1))
    outbox.put(note(2))
    outbox.refuse(outbox.first(1)[0][0], "too long")
    assert [each for _, each in outbox.first(9)] == [note(2)]
    assert outbox.waiting() == 1
    outbox.close()
    assert outbox.waiting() == 2


def test_a_disk_that_takes_nothing_is_said_with_the_file(tmp_path):
    (tmp_path / "memory").write_text("a file where the folder should be")
    outbox = Outbox(tmp_path / "memory" / "outbox.db", most=5)
    with pytest.raises(Unavailable, match=r"outbox\.db: notes cannot be kept"):
        outbox.put(note(1))
    (tmp_path / "memory").unlink()
    assert outbox.put(note(1)) == 1, "it works as soon as the disk does"
    outbox.close()


def test_a_damaged_file_is_set_aside_and_a_new_one_begins(outbox, tmp_path, caplog):
    outbox.path.parent.mkdir()
    outbox.path.write_bytes(b"no database " * 1000)
    assert outbox.put(note(1)) == 1
    assert "is damaged" in caplog.text
    [aside] = outbox.path.parent.glob("*.damaged-*")
    assert aside.read_bytes().startswith(b"no database")


def test_a_note_is_on_the_disk_when_put_returns(outbox):
    """What a power cut leaves: SQLite's own promise, if it was asked for it."""
    outbox.put(note(1))
    assert outbox._db is not None
    assert outbox._db.execute("pragma synchronous").fetchone() == (2,), "full"
    with sqlite3.connect(outbox.path) as other:
        assert other.execute("pragma journal_mode").fetchone() == ("wal",)
        assert other.execute("select count(*) from note").fetchone() == (1,)
    other.close()


def test_a_worker_opens_the_memory_at_its_start_only_for_notes_that_wait(
    tmp_path: pathlib.Path,
) -> None:
    settings = Settings(data=tmp_path, qdrant_url="http://127.0.0.1:1")

    async def opened() -> bool:
        clients = Clients(settings, Gates(Signals()))
        await clients.deliver_notes()
        conditions = [one.what for one in clients.conditions]
        await clients.close()
        return conditions == ["memory"]

    assert not asyncio.run(opened()), "there was never a memory"
    outbox = Outbox(tmp_path / "memory" / "outbox.db", 10)
    outbox.put(Note("1", "failure", "a task", "a lesson", 1.0))
    assert asyncio.run(opened())
    outbox.remove([number for number, _ in outbox.first(10)])
    outbox.close()
    assert not asyncio.run(opened())
