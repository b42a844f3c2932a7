"""Documents: every mistake in a file that people write is said with its file, line and key."""

import pathlib

import pydantic
import pytest

from penstock.errors import CardError
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
    return Document(FILE, text, CardError, first_line)


def refused(text: str, first_line: int = 1) -> str:
    with pytest.raises(CardError) as caught:
        document(text, first_line).check(Animal)
    return caught.value.message


def test_a_sound_document_becomes_its_model():
    animal = document("name: Tim\nlegs:\n  - {length: 0.5}\n  - {length: 1, foot: left}\n").check(
        Animal
    )
    assert [leg.length_m for leg in animal.legs] == [0.5, 1.0]


def test_an_empty_document_has_no_keys():
    assert document("").data == {}
    assert document("# only a remark\n").data == {}


def test_where_names_the_line_of_a_key_however_deep():
    doc = document(
        "name: Tim\nlegs:\n  - length: 1\n  - length: 2\n    foot: left\n", first_line=10
    )
    assert doc.where("name") == "agents/x.md:10"
    assert doc.where("legs", 0, "length") == "agents/x.md:12"
    assert doc.where("legs", 1, "foot") == "agents/x.md:14"


def test_where_names_the_nearest_line_around_what_is_not_there():
    doc = document("name: Tim\nlegs:\n  - length: 1\n", first_line=10)
    assert doc.where("legs", 0, "foot") == "agents/x.md:12"
    assert doc.where("legs", 7, "foot") == "agents/x.md:11"
    assert doc.where("tail") == "agents/x.md:10"


def test_fail_makes_the_authors_error_with_the_place():
    error = document("a: 1\nb: 2\n").fail("wrong", "b")
    assert isinstance(error, CardError)
    assert error.message == "agents/x.md:2: wrong"


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
        "agents/x.md:1", "agents/x.md:3", "agents/x.md:4", "agents/x.md:1",
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
        ("name: 2020-13-45\n", 10, "month must be in 1..12"),
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
    assert message == "agents/x.md:2: what begins here contains itself, by an alias"


def test_anchors_and_merges_that_end_are_taken():
    animal = document("name: Tim\ntail: &leg {length: 2}\nlegs:\n  - *leg\n  - <<: *leg\n").check(
        Animal
    )
    assert [leg.length_m for leg in animal.legs] == [2, 2]


def test_no_yaml_makes_objects_of_other_classes():
    assert "not YAML: could not determine a constructor" in refused(
        "name: !!python/object/apply:os.system [true]\n"
    )


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
    assert document(f"name: '{written}'\n").check(Animal).name == written


def test_a_date_is_refused_as_a_value_too():
    said = refused("name: 2026-01-31\n")
    assert said == "agents/x.md:1: 2026-01-31 is a date to YAML: write '2026-01-31' for the text"


def test_values_that_are_what_they_look_like_are_taken():
    text = "a: [true, False, 0, -7, +7, 1.5, 1e3, 1.10, null, ~, '010', \"no\", word, 10%]\n"
    assert document(text).data["a"][:6] == [True, False, 0, -7, 7, 1.5]
