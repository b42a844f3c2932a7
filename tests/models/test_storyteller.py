"""The offline storyteller: its stories are coherent, and its JSON is valid."""

import re
from collections.abc import Iterator

import jsonschema  # type: ignore[import-untyped,unused-ignore]
import pytest

from penstock.models import LABEL
from penstock.models.offline import stories
from penstock.models.offline.data import load
from penstock.models.offline.filling import fill
from penstock.models.offline.outlines import spotted_in
from penstock.models.offline.premises import read_premise
from penstock.models.offline.replies import reply

SEEDS = ("a", "b", "c", "d")

NAMED = {
    "Tim the Flying Dog": ("Tim", "flying dog called Tim"),
    "tim the flying dog": ("Tim", "flying dog called Tim"),
    "A lighthouse that is afraid of the dark": ("the lighthouse", "afraid of the dark"),
    "a quiet robot who learns to sing": ("the robot", "wants to sing"),
    "An owl who lost her glasses": ("the owl", "wants to find her glasses"),
    "Write me a story about Maya, a small whale": ("Maya", "a small whale called Maya"),
    "Three little robots": ("the smallest robot", "the smallest of three little robots"),
    "Captain Blue and the whale": ("Captain Blue", "a certain Captain Blue"),
    "The moon is lonely": ("the moon", "the moon"),
    "A pig who can fly": ("the pig", "a pig"),
}

NASTY = (
    "",
    "   \n\t ",
    ".",
    "pizza",
    "🐕🚀",
    "空飛ぶ犬のティム。とてもかわいい。",
    "Un chien volant qui a peur du noir",
    "كلب طائر",
    "{premise} {0} {{x}} {hero!r} [a|b] %s %(x)s \\1 \\g<0>",
    '<script>alert("1")</script>',
    "A dog </pre><b>bold</b>",
    'He said "hi" to {me}\nand left.',
    "a \x00 null, a \ud800 half, a \u202e turn",
    "the " * 400,
    "word" * 2000,
    "Tim the Flying Dog. " * 200,
    "the smallest of",
    "a certain",
    "the the the",
    "a girl named",
    "A an the my",
)


def whole_run(premise: str, seed: str) -> dict[str, str]:
    parts = {"premise": premise}
    for kind in stories.KINDS:
        parts[kind] = stories.tell(kind, parts, seed)
    return parts


def runs() -> Iterator[tuple[str, dict[str, str]]]:
    for premise in (*NAMED, *NASTY):
        for seed in SEEDS[:2]:
            yield premise, whole_run(premise, seed)


def plain_texts(story: str) -> list[str]:
    every = load("telling")["good_place"].strip("[]").split("|")
    every += [plot["close"]["plain"].split("{")[0] for plot in load("plots").values()]
    return [text for text in every if text and text in story]


def test_the_same_parts_and_seed_give_the_same_text() -> None:
    assert whole_run("Tim the Flying Dog", "a") == whole_run("Tim the Flying Dog", "a")


def test_the_text_does_not_depend_on_the_machine_or_the_python_version() -> None:
    plot = stories.tell("plot", {"premise": "Tim the Flying Dog"}, "a")
    assert plot.startswith("Title: Tim the Flying Dog and the Lamp in the Last Window\n")


def test_other_seeds_give_other_stories() -> None:
    finals = {whole_run("Tim the Flying Dog", str(seed))["final"] for seed in range(12)}
    assert len(finals) == 12
    assert len({story.split("\n")[0] for story in finals}) >= 4


@pytest.mark.parametrize("premise", NAMED)
def test_the_hero_of_the_premise_is_the_hero_of_every_text(premise: str) -> None:
    called, said = NAMED[premise]
    for seed in SEEDS:
        run = whole_run(premise, seed)
        assert said.lower() in run["plot"].lower()
        assert called.lower() in run["story"].lower()
        assert called.lower() in run["final"].lower()


def test_the_four_texts_have_the_length_that_they_should() -> None:
    for premise, run in runs():
        assert 100 <= len(run["plot"].split()) <= 220, premise
        assert 340 <= len(run["story"].split()) <= 520, premise
        assert 95 <= len(run["critique"].split()) <= 190, premise
        assert len(run["final"].split()) > len(run["story"].split()), premise


def test_no_premise_breaks_the_prose() -> None:
    for premise, run in runs():
        for kind in stories.KINDS:
            text = run[kind]
            text.encode("utf-8")
            assert text.strip() == text
            assert "{" not in text or "{" in premise
            assert "  " not in text
            assert not re.search(r" [,.;:]|[^.]\.\.(?!\.)|They was|^[a-z]", text, re.MULTILINE)
            assert LABEL not in text


def test_a_premise_that_names_nobody_is_quoted_as_it_was_typed() -> None:
    for premise in ("<b>{x}</b>", "🐕🚀", "空飛ぶ犬のティム", "[a|b] {0}"):
        run = whole_run(premise, "a")
        assert f'"{premise}"' in run["plot"]
        assert f'"{premise}"' in run["final"]


def test_a_long_premise_is_cut_between_words() -> None:
    story = stories.tell("story", {"premise": "so many different words " * 90}, "a")
    assert re.search(r'"so many different words [a-z ]+\.\.\."', story)


def test_the_story_follows_the_plot_it_is_given() -> None:
    for premise in NAMED:
        for seed in SEEDS:
            plot = stories.tell("plot", {"premise": premise}, seed)
            story = stories.tell("story", {"premise": premise, "plot": plot}, "another trace")
            title = plot.split("\n")[0].removeprefix("Title: ")
            helpers = [one["name"] for one in load("people")["helpers"]]
            helper = next(name for name in [*helpers, "whale"] if name in plot)
            assert story.startswith(title + "\n")
            assert helper in story
            assert spotted_in(story) is spotted_in(plot) is not None


def test_an_edited_plot_gives_an_edited_story() -> None:
    plot = stories.tell("plot", {"premise": "Tim the Flying Dog"}, "a")
    edited = plot.replace("A clockmaker called Miss Fennimore", "A purple hippo called Bob")
    edited = edited.replace("A flying dog called Tim", "A clumsy cat called Ada")
    assert edited != plot
    story = stories.tell("story", {"premise": "Tim the Flying Dog", "plot": edited}, "a")
    body = story.partition("\n")[2]
    assert "a clumsy cat called Ada" in body and "a purple hippo called Bob" in body
    assert "Tim " not in body and "Fennimore" not in body


def test_every_plot_is_known_again_in_its_own_texts() -> None:
    seen = set()
    for premise in NAMED:
        for seed in "abcdefgh":
            run = whole_run(premise, seed)
            plot = spotted_in(run["plot"])
            assert plot is spotted_in(run["story"]) is spotted_in(run["final"])
            seen.add(plot["praised"] if plot else "")
    assert len(seen) == len(load("plots")) - 1  # all but the one for premises without a hero


def test_a_hero_reads_the_same_from_the_plot_as_from_the_premise() -> None:
    for premise in NAMED:
        hero = read_premise(premise)
        assert hero is not None
        again = read_premise(hero.intro)
        assert again is not None
        assert (again.called, again.intro, again.sort) == (hero.called, hero.intro, hero.sort)


def test_the_critique_quotes_the_story() -> None:
    for premise, run in runs():
        quoted = re.findall(r'"([^"]{12,}?)(?:\.\.\.)?"', run["critique"])
        story = run["story"].replace('"', "'")
        assert quoted, premise
        assert all(said in story for said in quoted), premise


def test_the_final_version_replaces_what_the_critique_names_and_keeps_the_rest() -> None:
    for premise, run in runs():
        before, after = run["story"].split("\n\n"), run["final"].split("\n\n")
        assert after[0] == before[0], premise
        kept = [paragraph for paragraph in before[2:-1] if paragraph in after]
        assert len(kept) >= 3, premise
        assert run["final"].count('"') > run["story"].count('"'), premise
        assert len(plain_texts(run["final"])) < len(plain_texts(run["story"])), premise


def test_only_what_a_critique_names_is_changed() -> None:
    run = whole_run("Tim the Flying Dog", "b")
    run["critique"] = "Lovely. Only the ending is flat."
    final = stories.tell("final", run, "b").split("\n\n")
    assert final[:6] == run["story"].split("\n\n")[:6]
    assert final[-1] != run["story"].split("\n\n")[-1]


def test_a_critique_may_be_json() -> None:
    run = whole_run("Tim the Flying Dog", "b")
    as_json = {**run, "critique": {"verdict": "revise", "critique": run["critique"], "scores": {}}}
    assert stories.tell("final", as_json, "b") == run["final"]


def test_a_story_by_somebody_else_is_kept_whole() -> None:
    story = "Der Hund\n\nEs war einmal ein Hund. Er flog hoch. Dann kam er heim."
    parts = {"premise": "Ein Hund", "story": story}
    assert '"Es war einmal ein Hund."' in stories.tell("critique", parts, "a")
    assert stories.tell("final", parts, "a").startswith(story)


def test_missing_and_odd_parts_are_made_up() -> None:
    odd: list[dict[str, object]] = [{}, {"premise": None}, {"premise": ["a", 1]}, {"story": ""}]
    odd += [{"story": "x"}, {"plot": "Hero: "}, {"critique": {"scores": {"plot": 3}}}]
    for parts in odd:
        for kind in stories.KINDS:
            assert len(stories.tell(kind, parts, "a")) > 100


def test_an_unknown_kind_is_named_in_the_error() -> None:
    with pytest.raises(ValueError, match="'poem'"):
        stories.tell("poem", {}, "a")


def test_a_reply_takes_up_the_words_of_its_input() -> None:
    text = "The harbour was quiet. Boats slept in the harbour, and the harbour lamps burned low."
    said = reply("Summarise it. Be brief.", text, "a")
    assert said == reply("Summarise it. Be brief.", text, "a")
    assert '"The harbour was quiet."' in said
    assert "15 words" in said and "harbour" in said.splitlines()[1]
    assert '"Summarise it."' in said


def test_a_reply_can_be_made_of_any_text() -> None:
    for text in NASTY:
        said = reply(text, text, "a")
        assert said and len(said) < 800
        said.encode("utf-8")


SCHEMAS: list[dict[str, object]] = [
    {},
    {"type": "string"},
    {"type": "string", "minLength": 300, "maxLength": 310},
    {"type": "string", "maxLength": 9},
    {"type": "string", "maxLength": 0},
    {"type": ["null", "integer"], "minimum": 3},
    {"type": "integer", "minimum": 1, "maximum": 5},
    {"type": "integer", "exclusiveMinimum": 4, "exclusiveMaximum": 6},
    {"type": "integer", "multipleOf": 25, "minimum": 30, "maximum": 60},
    {"type": "integer", "maximum": -7},
    {"type": "integer", "minimum": 400},
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "number", "exclusiveMinimum": 0.001, "exclusiveMaximum": 0.002},
    {"type": "number", "multipleOf": 0.5, "minimum": 2},
    {"type": "boolean"},
    {"const": {"a": [1]}},
    {"enum": ["revise", "accept"]},
    {"type": "array", "items": {"type": "string"}, "minItems": 4},
    {"type": "array", "items": {"type": "integer"}, "maxItems": 1},
    {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "items": {"type": "string"}, "minItems": 30, "uniqueItems": True},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "boolean"}], "items": False},
    {"type": "object"},
    {"type": "object", "required": ["a", "b"], "additionalProperties": {"type": "integer"}},
    {"type": "object", "minProperties": 2, "additionalProperties": {"type": "boolean"}},
    {"anyOf": [{"type": "integer", "minimum": 2}, {"type": "null"}]},
    {"oneOf": [{"type": "boolean"}, {"type": "string"}]},
    {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d$"},
    {"type": "string", "format": "date-time"},
    {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
            {"properties": {"b": {"type": "integer"}}, "required": ["b"]},
        ]
    },
    {
        "type": "object",
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
                },
                "required": ["name", "next", "children"],
                "additionalProperties": False,
            }
        },
        "properties": {"root": {"$ref": "#/$defs/Node"}},
        "required": ["root"],
    },
]

CRITIQUE: dict[str, object] = {
    "type": "object",
    "$defs": {"Mark": {"type": "integer", "minimum": 1, "maximum": 10}},
    "properties": {
        "verdict": {"type": "string", "enum": ["revise", "accept"]},
        "title": {"type": "string", "maxLength": 60},
        "scores": {
            "type": "object",
            "properties": {
                "plot": {"$ref": "#/$defs/Mark"},
                "voice": {"$ref": "#/$defs/Mark"},
                "comment": {"type": "string"},
            },
            "required": ["plot", "voice", "comment"],
            "additionalProperties": False,
        },
        "critique": {"type": "string", "minLength": 20},
        "suggestions": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    },
    "required": ["verdict", "title", "scores", "critique", "suggestions"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("schema", [*SCHEMAS, CRITIQUE], ids=lambda schema: str(schema)[:60])
def test_what_is_filled_in_is_valid(schema: dict[str, object]) -> None:
    for seed in SEEDS:
        for prose in ("", "One. Two is longer! Three?", "Title\n\nA story. It ends.", "word" * 99):
            made = fill(schema, seed, prose)
            jsonschema.Draft202012Validator(schema).validate(made)
            assert made == fill(schema, seed, prose)


def test_the_prose_goes_where_text_is_asked_for() -> None:
    prose = "The opening is slow. The ending is kind."
    made = fill(CRITIQUE, "a", prose)
    assert isinstance(made, dict) and made["critique"] == prose
    assert all(sentence in prose for sentence in made["suggestions"])
    first = {"properties": {"kind": {"enum": ["x"]}, "note": {"type": "string"}}}
    assert fill(first, "a", prose) == {"kind": "x", "note": prose}
    assert fill({"type": "string"}, "a", prose) == prose


def test_a_reference_that_leads_nowhere_is_named_in_the_error() -> None:
    for ref in ("#/$defs/Missing", "https://example.org/schema"):
        with pytest.raises(ValueError, match=re.escape(repr(ref))):
            fill({"$ref": ref}, "a", "prose")


def test_a_schema_that_is_only_itself_is_an_error() -> None:
    with pytest.raises(ValueError, match="refers to itself"):
        fill({"$ref": "#"}, "a", "prose")
