"""Cards: what an agent is told, and what is said about a card that cannot be used."""

import itertools
import pathlib

import pytest

from penstock.errors import ModelMisbehaved
from penstock.project.cards import Card, read_card

FULL = """\
---
about: Judges
model: ollama/gemma3:1b
temperature: 0
max_tokens: 100
concurrency: 3
timeout_s: 2.5
tools: [look]
output:
  type: object
  properties:
    verdict: {enum: [keep, revise]}
    notes: {type: array, items: {type: string}}
  required: [verdict]
---
Judge the text.

## Task: again

Judge it again.

## Task: last

Be kind.
"""


@pytest.fixture
def write(tmp_path):
    def write_(text: str, name: str = "judge") -> pathlib.Path:
        file: pathlib.Path = tmp_path / f"{name}.md"
        file.write_bytes(text.encode())
        return file

    return write_


@pytest.fixture
def read(write):
    def read_(text: str) -> Card:
        card = read_card(write(text))
        assert card.document.problems == []
        return card

    return read_


@pytest.fixture
def refused(write):
    def refused_(text: str) -> str:
        file = write(text)
        said = "\n".join(read_card(file).document.problems)
        assert said
        return said.replace(str(file), "judge.md")

    return refused_


def test_a_card_is_its_front_matter_and_its_instructions(read):
    card: Card = read(FULL)
    front = card.front
    assert (card.name, front.about, front.model) == ("judge", "Judges", "ollama/gemma3:1b")
    assert (front.temperature, front.max_tokens, front.concurrency) == (0, 100, 3)
    assert (front.timeout_s, front.tools) == (2.5, ["look"])
    assert card.instructions(None) == "Judge the text."


def test_a_task_follows_the_common_part_of_the_instructions(read):
    card: Card = read(FULL)
    assert list(card.tasks) == ["again", "last"]
    assert card.instructions("again") == "Judge the text.\n\nJudge it again."
    assert card.instructions("last") == "Judge the text.\n\nBe kind."


def test_a_card_of_tasks_only_has_nothing_in_common(read):
    card: Card = read("## Task: a\n\nDo a.\n")
    assert card.instructions("a") == "Do a."
    assert card.instructions(None) == ""


def test_a_task_of_a_card_with_a_schema_may_be_answered_in_prose(read, refused):
    card: Card = read(FULL.replace("timeout_s", "prose: [last]\ntimeout_s"))
    assert card.output_for("last") is None
    assert card.output_for("again") == card.output_for(None) == card.front.output is not None
    message = refused(FULL.replace("timeout_s", "prose: [lst]\ntimeout_s"))
    assert message == "judge.md:7: 'prose' names 'lst', which is no task of this card"


def test_a_card_needs_no_front_matter(read):
    card: Card = read("Tell a tale.\n\n---\n\nA rule above.\n")
    assert card.instructions(None) == "Tell a tale.\n\n---\n\nA rule above."
    assert (card.front.temperature, card.front.max_tokens) == (0.7, 5000)


def test_the_hash_is_of_the_whole_file(read):
    first, second = read("Tell a tale."), read("Tell a tale. ")
    assert first.hash != second.hash
    assert first.label == f"judge@{first.hash}"
    assert read("Tell a tale.").hash == first.hash


def test_a_byte_order_mark_and_windows_line_ends_do_not_matter(read):
    card: Card = read("\ufeff---\r\nabout: x\r\n---\r\nTell.\r\n\r\n## Task: a\r\nDo a.\r\n")
    assert (card.front.about, card.common, card.tasks) == ("x", "Tell.", {"a": "Do a."})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("---\nmodl: x\n---\nTell.", 2),
        ("---\nabout: x\nmodl: x\n---\nTell.", 3),
        ("---\n\n\nmodl: x\n---\nTell.", 4),
        ("\ufeff---\r\nabout: x\r\nmodl: x\r\n---\r\nTell.", 3),
    ],
)
def test_an_unknown_key_is_refused_with_file_line_and_key(refused, text, line):
    message = refused(text)
    assert message.startswith(f"judge.md:{line}: unknown key 'modl'. Did you mean 'model'?")


@pytest.mark.parametrize(
    ("front", "expected"),
    [
        ("temperature: 3", "judge.md:2: 'temperature' is 3: "),
        ("temperature: hot", "judge.md:2: 'temperature' is 'hot': "),
        ("max_tokens: 0", "judge.md:2: 'max_tokens' is 0: "),
        ("max_tokens: '5'", "judge.md:2: 'max_tokens' is '5': "),
        ("timeout_s: 0", "judge.md:2: 'timeout_s' is 0: "),
        ("concurrency: 0", "judge.md:2: 'concurrency' is 0: "),
        ("tools: look", "judge.md:2: 'tools' is 'look': "),
        ("output: {type: objekt}", "not a JSON Schema: 'objekt' is not valid"),
        ("output: {type: array}", "begins with 'type: object'"),
        ("just text", "judge.md:1: expected 'key: value' lines, found 'just text'"),
    ],
)
def test_a_bad_value_in_the_front_matter_is_refused(refused, front, expected):
    assert expected in refused(f"---\n{front}\n---\nTell.")


def test_a_card_says_what_its_agent_gets_from_the_memory(read):
    recall = read(
        "---\nrecall: {about: [title], kinds: [failure], limit: 9}\n---\nTell."
    ).front.recall
    assert (recall.about, recall.kinds, recall.limit) == (["title"], ["failure"], 9)
    recall = read("---\nrecall: {}\n---\nTell.").front.recall
    assert (recall.about, recall.limit, recall.under) == ([], 3, "lessons")
    assert recall.kinds == ["failure", "success", "pattern"]
    assert read("Tell.").front.recall is None


@pytest.mark.parametrize(
    ("recall", "expected"),
    [
        ("{abuot: [title]}", "judge.md:2: unknown key 'recall.abuot'. Did you mean 'about'?"),
        ("{about: title}", "'recall.about' is 'title'"),
        ("{kinds: [lesson]}", "'failure', 'success' or 'pattern'"),
        ("{kinds: []}", "'recall.kinds' is []"),
        ("{limit: 0}", "'recall.limit' is 0"),
        ("{limit: 101}", "'recall.limit' is 101"),
        ("{under: ''}", "'recall.under' is ''"),
        ("lessons", "'recall' is 'lessons'"),
    ],
)
def test_a_bad_look_into_the_memory_is_refused(refused, recall, expected):
    assert expected in refused(f"---\nrecall: {recall}\n---\nTell.")


def test_front_matter_that_is_not_closed_is_refused(refused):
    message = refused("---\nabout: x\nTell a tale.\n")
    assert message == "judge.md:1: the front matter has no closing '---' line"


@pytest.mark.parametrize("text", ["", "---\nabout: x\n---\n\n  \n"])
def test_a_card_without_instructions_is_refused(refused, text):
    said = refused(text)
    assert said.endswith(": there are no instructions below the front matter")


def test_two_sections_for_one_task_are_refused_with_its_name(refused):
    message = refused("Tell.\n## Task: a\nx\n## Task: b\ny\n## Task: a\nz\n")
    assert message == "judge.md:6: two sections are for the task 'a'; one is enough"


def test_a_file_that_cannot_be_read_is_refused_with_its_name(tmp_path):
    file = tmp_path / "judge.md"
    (said,) = read_card(file).document.problems
    assert said.startswith(f"{file}:1: cannot be read: ") and "No such file" in said
    file.write_bytes(b"\xff\xfe")
    (said,) = read_card(file).document.problems
    assert said.startswith(f"{file}:1: cannot be read: ") and "utf-8" in said
    file.write_bytes(b"x" * 1_000_001)
    assert read_card(file).document.problems == [f"{file}:1: larger than 1,000,000 bytes"]


def test_an_answer_that_fits_the_schema_is_taken(read):
    card: Card = read(FULL)
    card.check_output({"verdict": "keep", "notes": ["fine"]})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"verdict": "maybe"}, "card 'judge' at ['verdict']: 'maybe' is not one of"),
        ({"verdict": "keep", "notes": ["a", 1]}, "at ['notes'][1]: 1 is not of type 'string'"),
        ({}, "card 'judge': 'verdict' is a required property"),
        ("keep", "'keep' is not of type 'object'"),
    ],
)
def test_an_answer_that_breaks_the_schema_is_refused_with_the_path(read, answer, expected):
    card: Card = read(FULL)
    with pytest.raises(ModelMisbehaved) as caught:
        card.check_output(answer)
    assert expected in caught.value.message


def test_a_card_without_a_schema_takes_any_answer(read):
    read("Tell.").check_output({"anything": [1, None]})


def test_everything_that_is_wrong_with_a_card_is_said_at_once_in_the_order_of_the_file(refused):
    said = refused("""\
---
modl: gpt
temperature: hot
output:
  type: object
  properties:
    score: {type: nummer}
    text: {type: string, minLength: -1}
    link: {$ref: "#/$defs/lnk"}
prose: [a, b]
recall: {limit: 0}
---
Tell.
## Task: a
x
## Task: a
y
""")
    expected = [
        "2: unknown key 'modl'. Did you mean 'model'?",
        "3: 'temperature' is 'hot': ",
        "7: not a JSON Schema: 'nummer' is not valid",
        "8: not a JSON Schema: -1 is less than the minimum of 0",
        "9: $ref: '#/$defs/lnk' leads to nothing in this schema",
        "10: 'prose' names 'b', which is no task of this card",
        "11: 'recall.limit' is 0: ",
        "16: two sections are for the task 'a'; one is enough",
    ]
    for found, begin in itertools.zip_longest(said.split("\n"), expected, fillvalue=""):
        assert found.removeprefix("judge.md:").startswith(begin)


SCHEMA = """\
---
output:
  type: object
  properties: {one: %s}
  $defs:
    leaf: {type: string}
    tree: {type: object, properties: {left: {$ref: "#/$defs/tree"}}}
    maybe: {anyOf: [{type: "null"}, {$ref: "#/$defs/node"}]}
    node: {type: object, required: [next], properties: {next: {$ref: "#/$defs/maybe"}}}
---
Tell.
"""


@pytest.mark.parametrize(
    "one",
    [
        '{$ref: "#/$defs/leaf"}',
        '{$ref: "#/$defs/tree"}',
        '{$ref: "#/$defs/node"}',
        '{type: array, items: {$ref: "#"}}',
        "{type: object, properties: {$ref: {type: string}, $id: {type: string}}}",
        '{enum: [{$ref: "http://127.0.0.1:1/x"}]}',
    ],
)
def test_a_schema_may_refer_to_what_is_in_it_and_hold_itself_where_an_answer_ends(read, one):
    read(SCHEMA % one).check_output({})


@pytest.mark.parametrize(
    ("one", "key", "problem"),
    [
        ('{$ref: "http://127.0.0.1:1/x.json"}', "$ref: 'http", "leads out of this schema, and not"),
        ('{$ref: "https://json-schema.org/draft/2020-12/schema"}', "$ref", "nothing is fetched"),
        ('{$ref: "file:///etc/passwd"}', "$ref: 'file", "leads out of this schema"),
        ('{$ref: "other.json#/a"}', "$ref", "leads out of this schema"),
        ('{$ref: ""}', "$ref: ''", "leads out of this schema"),
        ('{items: {anyOf: [{not: {$ref: "ftp://x/y"}}]}}', "$ref", "leads out of this schema"),
        ('{$ref: "#/$defs/none"}', "$ref", "leads to nothing"),
        ('{$ref: "#name"}', "$ref", "leads to nothing"),
        ('{$ref: "#/properties/one"}', "$ref", "leads back to itself"),
        ('{anyOf: [{type: string}, {$ref: "#/properties/one"}]}', "$ref", "leads back to itself"),
        (
            '{type: object, required: [a], properties: {a: {$ref: "#/properties/one"}}}',
            "$ref",
            "no answer would end",
        ),
        ('{$id: "http://127.0.0.1:1/", type: string}', "'$id'", "nothing is fetched"),
        ("{$anchor: a, type: string}", "'$anchor'", "nothing is fetched"),
        ('{$dynamicRef: "#a"}', "'$dynamicRef'", "nothing is fetched"),
        ("{$dynamicAnchor: a}", "'$dynamicAnchor'", "nothing is fetched"),
    ],
)
def test_a_schema_that_refers_to_what_is_not_in_it_or_never_ends_is_refused(
    refused, one, key, problem
):
    said = refused(SCHEMA % one)
    assert said.startswith(f"judge.md:4: {key}") and problem in said and "\n" not in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("---\noutput: {type: object, proprties: {}}\n---\nTell.", "2: 'proprties' says nothing"),
        (
            "---\noutput: {type: object, required: [a, b], properties: {a: {}}}\n---\nTell.",
            "2: 'required' names 'b', which is none of the properties (a).",
        ),
        ("Tell.\n\n### task: a\n\nMore.", "3: no task: that would be '## Task: a'"),
    ],
)
def test_what_works_and_hardly_anybody_means_is_a_warning(write, text, expected):
    document = read_card(write(text)).document
    assert document.problems == []
    (said,) = document.warnings
    assert said.startswith(f"{document.file}:{expected}")


def test_a_pattern_that_is_no_regular_expression_is_refused(refused):
    said = refused("---\noutput: {type: object, properties: {a: {pattern: '('}}}\n---\nTell.")
    assert said == "judge.md:2: not a JSON Schema: '(' is not a 'regex'"
