"""Documents: every mistake in a file that people write is said with its file, line and key."""

import itertools
import pathlib
import time

import pydantic
import pytest

from penstock.project.documents import Document

FILE = pathlib.Path("agents/x.md")


class Leg(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    length_m: float = pydantic.Field(alias="length")
    foot: str | None = None


class Animal(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    name: str
    legs: list[Leg] = []
    tail: Leg | None = None


def document(text: str, first_line: int = 1) -> Document:
    return Document(FILE, text, first_line)


def read(text: str) -> Animal:
    doc = document(text)
    animal = doc.check(Animal)
    assert animal is not None and doc.problems == []
    return animal


def refused(text: str, first_line: int = 1) -> str:
    doc = document(text, first_line)
    doc.check(Animal)
    return "\n".join(doc.problems)


def test_a_sound_document_becomes_its_model():
    animal = read("name: Tim\nlegs:\n  - {length: 0.5}\n  - {length: 1, foot: left}\n")
    assert [leg.length_m for leg in animal.legs] == [0.5, 1.0]


def test_an_empty_document_has_no_keys():
    assert document("").data == {}
    assert document("# only a remark\n").data == {}


def test_a_mistake_is_said_with_the_line_of_its_key_or_of_the_nearest_around_it():
    doc = document(
        "name: Tim\nlegs:\n  - length: 1\n  - length: 2\n    foot: left\n", first_line=10
    )
    for path in (("legs", 1, "foot"), ("name",), ("legs", 0, "foot"), ("legs", 7), ("tail",)):
        doc.note("wrong", *path)
    assert [said.split(":")[1] for said in doc.problems] == ["10", "11", "12", "14"]
    doc.note("wrong", line=99)
    assert doc.problems[-1] == "agents/x.md:99: wrong"


def test_of_a_key_that_says_nothing_nothing_else_is_said():
    doc = document("a:\n  b: 1\nc: 2\n")
    doc.spoil("wrong", "a")
    for path in (("a",), ("a", "b"), ("c",)):
        doc.note("also wrong", *path)
    assert doc.problems == ["agents/x.md:1: wrong", "agents/x.md:3: also wrong"]


def test_a_mistake_is_one_line_however_much_it_quotes():
    doc = document("a: 1\n")
    doc.note("two\nlines " + "x" * 5_000)
    (said,) = doc.problems
    assert said.startswith("agents/x.md:1: two lines xxx") and len(said) < 1_100


def test_an_unknown_key_is_named_with_the_keys_that_are_allowed_beside_it():
    message = refused("name: Tim\nlegs:\n  - length: 1\n    fot: left\n")
    assert message == (
        "agents/x.md:4: unknown key 'legs.0.fot'. Did you mean 'foot'? Allowed here: length, foot."
    )
    message = refused("name: Tim\ntail:\n  length: 1\n  zzz: 1\n")
    assert message == "agents/x.md:4: unknown key 'tail.zzz'. Allowed here: length, foot."


def test_a_missing_key_is_named_where_it_should_stand():
    assert refused("name: Tim\nlegs:\n  - foot: left\n") == (
        "agents/x.md:3: the key 'legs.0.length' is missing."
    )
    assert refused("", first_line=2) == "agents/x.md:2: the key 'name' is missing."


def test_a_bad_value_is_named_with_the_value():
    assert refused("name: Tim\nlegs:\n  - length: long\n") == (
        "agents/x.md:3: 'legs.0.length' is 'long': Input should be a valid number"
    )


def test_all_mistakes_are_said_at_once():
    lines = refused("nme: Tim\nlegs:\n  - length: long\ntail: 3\n").split("\n")
    assert [line.split(": ")[0] for line in lines] == [
        "agents/x.md:1", "agents/x.md:3", "agents/x.md:4",
    ]  # fmt: skip


def test_a_key_that_stands_twice_is_refused_where_yaml_would_take_the_last():
    assert refused("name: Tim\nlegs: []\nname: Tom\n") == "agents/x.md:3: 'name' stands here twice"


@pytest.mark.parametrize("word", ["on", "yes", "1", "1.5", "null"])
def test_a_key_that_yaml_reads_as_a_value_is_refused_with_the_way_out(word):
    message = refused(f"name: Tim\ntail:\n  length: 1\n  {word}: left\n")
    assert message.startswith(f"agents/x.md:4: the key {word} is not text")
    assert message.endswith(f"write '{word}'")
    assert "unknown key 'tail.on'" in refused("name: Tim\ntail:\n  length: 1\n  'on': left\n")


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("name: Tim\nlegs: [\n", 12, "while parsing a flow node"),
        ("name: Tim\nlegs: 'x\n\n", 13, "while scanning a quoted scalar"),
        ("name: Tim\n\tlegs: x\n", 11, "found character '\\t'"),
        ("name: Tim\n---\nname: Tom\n", 11, "expected a single document in the stream"),
        ("name: a: b\n", 10, "mapping values are not allowed here"),
        ("name: \x01\n", 10, "special characters are not allowed"),
    ],
)
def test_what_is_not_yaml_is_said_with_its_line(text, line, problem):
    message = refused(text, first_line=10)
    assert message.startswith(f"agents/x.md:{line}: not YAML: ")
    assert problem in message


@pytest.mark.parametrize("text", ["just text", "- a\n- b\n", "null", "3"])
def test_what_is_no_mapping_is_refused_with_what_was_found(text):
    assert refused(text).startswith("agents/x.md:1: expected 'key: value' lines, found ")


def test_an_alias_that_contains_itself_is_refused():
    message = refused("name: Tim\nlegs: &a\n  - length: 1\n  - *a\n")
    assert message == "agents/x.md:4: not YAML: what this alias stands for contains it"


def test_anchors_and_merges_that_end_are_taken():
    animal = read("name: Tim\ntail: &leg {length: 2}\nlegs:\n  - *leg\n  - <<: *leg\n")
    assert [leg.length_m for leg in animal.legs] == [2, 2]


@pytest.mark.parametrize("tag", ["python/object/apply:os.system", "set", "binary", "omap"])
def test_no_yaml_makes_what_json_has_not(tag):
    message = refused(f"name: !!{tag} [true]\n")
    assert message == f"agents/x.md:1: the tag !!{tag} makes what JSON has not"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        (
            "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
            + "".join(
                f"{b}: &{b} [{', '.join(f'*{a}' for _ in range(10))}]\n"
                for a, b in itertools.pairwise("abcdefghi")
            ),
            4,
            "more than 10,000 keys and values, with those that aliases stand for",
        ),
        ("a: &a {x: 1}\n" + "b: &b {<<: [" + "*a, " * 6_000 + "]}\n", 2, "more than 10,000 keys"),
        ("a: [" + "x, " * 10_001 + "]\n", 1, "more than 10,000 keys and values"),
        ("a: " + "[" * 100_000, 1, "more than 50 levels, one in the other"),
        ("a:\n" + "".join(f"{'  ' * n}- b:\n" for n in range(60)), 25, "more than 50 levels"),
        (
            "a: &a " + "[" * 30 + "]" * 30 + "\nb: " + "[" * 30 + "*a" + "]" * 30 + "\n",
            2,
            "more than 50 levels",
        ),
    ],
)
def test_yaml_without_bound_is_refused_in_one_sentence_and_at_once(text, line, problem):
    begun = time.process_time()
    message = refused(text)
    assert time.process_time() - begun < 0.5, "a tenth of that, on an idle machine"
    assert message.startswith(f"agents/x.md:{line}: not YAML: {problem}") and "\n" not in message


@pytest.mark.parametrize(
    "written", ["9" * 5_000, "1" + ":1" * 400_000, "0." + "3" * 5_000, "0x" + "f" * 5_000]
)
def test_a_number_without_end_is_text_that_was_meant_otherwise(written):
    message = refused(f"name: {written}\n")
    assert "is a number too long to YAML: write '" in message and len(message) < 1_100


def test_all_mistakes_are_said_those_of_yaml_and_those_of_the_keys():
    lines = refused(
        "name: no\nname: Tim\nlegs:\n  - {lenght: 12, foot: 3}\n  - 7\ntail: {length: .inf}\nx: 1\n"
    ).split("\n")
    assert [line.partition(": ")[::2] for line in lines] == [
        ("agents/x.md:1", "no is false to YAML: write 'no' for the text, or false"),
        ("agents/x.md:2", "'name' stands here twice"),
        (
            "agents/x.md:4",
            "unknown key 'legs.0.lenght'. Did you mean 'length'? Allowed here: length, foot.",
        ),
        ("agents/x.md:4", "'legs.0.foot' is 3: Input should be a valid string"),
        ("agents/x.md:5", "'legs.1' is 7: Input should be a valid dictionary or instance of Leg"),
        (
            "agents/x.md:6",
            ".inf is a number beyond JSON to YAML: write '.inf' for the text",
        ),
        ("agents/x.md:7", "unknown key 'x'. Allowed here: name, legs, tail."),
    ]


@pytest.mark.parametrize(
    ("written", "other"),
    [
        ("12:30", "750"),
        ("no", "false"),
        ("On", "true"),
        ("010", "8"),
        ("0x1F", "31"),
        ("1_000", "1000"),
        ("1:30.5", "90.5"),
    ],
)
def test_a_value_that_yaml_takes_for_another_one_is_refused_with_the_way_out(written, other):
    said = refused(f"name: Tim\nlegs:\n  - length: 1\n    foot: {written}\n")
    assert said == (
        f"agents/x.md:4: {written} is {other} to YAML: write '{written}' for the text, or {other}"
    )
    assert read(f"name: '{written}'\n").name == written


def test_a_date_is_refused_as_a_value_too():
    said = refused("name: 2026-01-31\n")
    assert said == "agents/x.md:1: 2026-01-31 is a date to YAML: write '2026-01-31' for the text"


def test_values_that_are_what_they_look_like_are_taken():
    text = "a: [true, False, 0, -7, +7, 1.5, 1e3, 1.10, null, ~, '010', \"no\", word, 10%]\n"
    assert document(text).data["a"][:6] == [True, False, 0, -7, 7, 1.5]
