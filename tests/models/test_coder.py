"""The offline coder: what it writes fits the mesh's cards, follows its parts, and never repeats."""

import asyncio
import json

import pytest
from agents import ModelSettings, ModelTracing
from agents.items import ItemHelpers

from penstock.models.offline import coder
from penstock.models.offline.data import load
from penstock.models.offline.model import OfflineModel
from penstock.models.offline.tasks import brainstorm, known, tasks
from penstock.project.cards import Card, read_card
from penstock.worker.runner import CardOutput
from tests.programs import ROOT

CARDS = {"ai_topic": "producer", "ai_solutions": "coder", "ai_reviews": "reviewer"}
NASTY: tuple[object, ...] = (
    *("", None, "free text", 7, [], ["a"], {}, {"title": None}, {"code": 3}, {"title": ["x"]}),
    {"task": "\x00 \u202e", "code": "def f(:\n" * 500, "verdict": "FAIL"},
    {"verdict": "FAIL", "cause": ["x"], "error": {"a": 1}},
    "$code {x} %s (" * 300,
)


@pytest.fixture(scope="module")
def cards() -> dict[str, Card]:
    return {part: read_card(ROOT / "agents" / f"{card}.md") for part, card in CARDS.items()}


def fail(error: str = "Traceback\nValueError: no") -> dict[str, object]:
    return {"verdict": "FAIL", "cause": "exit code", "error": error}


def answer(card: Card, writes: str, parts: dict[str, object], seed: str, asked: str = "") -> str:
    """What the offline model says to a stage with this card."""
    response = asyncio.run(
        OfflineModel(seed=seed, writes=writes, parts=parts).get_response(
            card.instructions(None),
            asked,
            ModelSettings(),
            [],
            CardOutput(card),
            [],
            ModelTracing.DISABLED,
            previous_response_id=None,
            conversation_id=None,
            prompt=None,
        )
    )
    return str(ItemHelpers.extract_last_content(response.output[0]))


def test_there_are_twenty_kinds_and_every_title_is_another() -> None:
    titles = list(tasks())
    kinds = load("tasks").values()
    assert len({kind["name"] for kind in kinds}) == 20
    assert len(titles) == sum(len(kind["variants"]) for kind in kinds) == 120
    assert not [(a, b) for a in titles for b in titles if a != b and a in b]
    for kind in kinds:
        variants = [task for task in tasks().values() if task.kind == kind["name"]]
        assert [n for n in range(6) if variants[n].first != variants[n].right] == [1, 4], kind[
            "name"
        ]
        assert all(bool(task.lesson) == (task.first != task.right) for task in variants)


def test_what_it_writes_fits_the_cards_for_many_seeds(cards: dict[str, Card]) -> None:
    for seed in map(str, range(40)):
        parts: dict[str, object] = {}
        for part, card in cards.items():
            parts[part] = coder.write(part, parts, "", seed)
            card.check_output(parts[part])
            if part == "ai_solutions":
                parts["ai_verified_solutions"] = fail() if int(seed) % 2 else {"verdict": "PASS"}


@pytest.mark.parametrize("nasty", NASTY, ids=range(len(NASTY)))
def test_any_value_in_any_part_is_answered(cards: dict[str, Card], nasty: object) -> None:
    names = ("ai_topic", "ai_solutions", "ai_verified_solutions", "lessons", "error")
    for parts in (dict.fromkeys(names, nasty), *({name: nasty} for name in names)):
        for part, card in cards.items():
            card.check_output(coder.write(part, parts, str(nasty), "a"))
        assert coder.as_text(coder.write("ai_telemetry", parts, "", "a"))


def test_the_offline_model_answers_the_cards_as_the_coder(cards: dict[str, Card]) -> None:
    parts: dict[str, object] = {}
    for part, card in cards.items():
        said = answer(card, part, parts, "a", "go")
        parts[part] = CardOutput(card).validate_json(said)
        assert parts[part] == coder.write(
            part, {k: v for k, v in parts.items() if k != part}, "go", "a"
        )
    assert said == answer(cards["ai_reviews"], "ai_reviews", parts | {"ai_reviews": ""}, "a", "go")


def test_a_card_that_asks_for_other_things_gets_those(cards: dict[str, Card], tmp_path) -> None:
    file = tmp_path / "strict.md"
    file.write_text(
        "---\noutput: {type: object, required: [mark], properties: {mark: {const: 1}}}\n---\nGo."
    )
    said = answer(read_card(file), "ai_reviews", {}, "a")
    assert json.loads(said)["mark"] == 1


def test_a_look_before_the_run_is_prose_and_knows_no_verdict() -> None:
    task = brainstorm("", "a")
    solution = coder.write("ai_solutions", {"ai_topic": task}, "", "a")
    parts = {"ai_topic": task, "ai_solutions": solution}
    said = coder.as_text(coder.write("ai_telemetry", parts, "", "a"))
    assert task["title"] in said and "\n" not in said and len(said) > 60


def test_no_title_is_repeated_while_there_is_another() -> None:
    made: list[str] = []
    for seed in range(120):
        made.append(brainstorm("\n".join(made), str(seed))["title"])
    assert sorted(made) == sorted(tasks())
    # Each kind is seen once before one comes again.
    assert len({title.split(":")[0] for title in made[:20]}) == 20
    assert brainstorm("\n".join(made), "z")["title"] in made


@pytest.mark.parametrize("where", ["asked", "parts"])
def test_titles_are_avoided_wherever_they_are_given(where: str) -> None:
    given = json.dumps(list(tasks())[:-1])
    parts, asked = ({}, given) if where == "asked" else ({"made": [{"title": given}]}, "")
    assert coder.write("ai_topic", parts, asked, "a")["title"] == list(tasks())[-1]


def test_a_title_is_not_taken_for_another_that_begins_with_it() -> None:
    given = [title for title in list(tasks()) if title != "Moving average: window 2"]
    made = brainstorm("\n".join([*given, "Moving average: window 23"]), "a")
    assert made["title"] == "Moving average: window 2"


def test_a_task_is_known_by_its_statement_and_by_a_title_in_a_text() -> None:
    for seed in map(str, range(30)):
        task = brainstorm("", seed)
        for given in (task, task | {"title": "mine"}, f"Please solve '{task['title']}'."):
            found = known(given)
            assert found is not None and found.title == task["title"]
    assert known("Boil an egg") is None


def wrong_task() -> tuple[dict[str, str], str, str]:
    """A task whose first program is wrong, that program, and the right one."""
    task = tasks()["Fizz-buzz: 2 and 7"]
    return task.described("a"), task.first, task.right


@pytest.mark.parametrize("where", ["ai_verified_solutions", "ai_topic", "error"])
def test_a_wrong_program_is_mended_when_the_error_is_given(where: str) -> None:
    task, wrong, right = wrong_task()
    parts: dict[str, object] = {"ai_topic": task}
    assert coder.write("ai_solutions", parts, "", "a")["code"] == wrong != right
    parts["ai_solutions"] = {"code": wrong}
    given = {
        "ai_verified_solutions": fail(),
        "ai_topic": task | fail(),
        "error": "Traceback\nValueError: no",
    }
    mended = coder.write("ai_solutions", parts | {where: given[where]}, "", "a")
    assert mended["code"] == right
    assert "ValueError: no" in str(mended["explanation"])


def test_a_lesson_about_the_kind_keeps_from_the_mistake() -> None:
    task, wrong, right = wrong_task()
    lesson = "Fizz-buzz: 3 and 5 failed: n itself was left out."
    parts: dict[str, object] = {"ai_topic": task, "lessons": [lesson]}
    assert coder.write("ai_solutions", parts, "", "a")["code"] == right
    other = {"ai_topic": task, "lessons": "Caesar cipher: nothing modulo 26"}
    assert coder.write("ai_solutions", other, "", "a")["code"] == wrong


def test_an_unknown_task_gets_a_program_that_does_not_claim_to_solve_it() -> None:
    made = coder.write("ai_solutions", {"ai_topic": "Boil an egg"}, "", "a")
    assert "does not know this task" in str(made["code"])


def test_a_review_fits_the_verdict_and_the_code() -> None:
    task, _, right = wrong_task()
    parts: dict[str, object] = {"ai_topic": task, "ai_solutions": {"code": right}}
    passed = parts | {"ai_verified_solutions": {"verdict": "PASS"}}
    good = coder.write("ai_reviews", passed, "", "a")
    bad = coder.write("ai_reviews", parts | {"ai_verified_solutions": fail()}, "", "a")
    unknown = coder.write("ai_reviews", parts, "", "a")
    assert int(str(good["score"])) >= 7 > int(str(unknown["score"])) > int(str(bad["score"]))
    assert "ValueError: no" in str(bad["critique"]) and task["title"] in str(bad["critique"])

    ugly = "x = input()\nwhile True:\n    try:\n        print(x)\n    except:\n        break\n"
    review = coder.write("ai_reviews", passed | {"ai_solutions": ugly}, "", "a")
    findings = " ".join(map(str, list(review["findings"])))  # type: ignore[call-overload]
    for said in ("'x'", "bare except", "loop without a condition"):
        assert said in findings


def test_a_pass_after_a_fix_is_reviewed_as_a_pass() -> None:
    task, _, right = wrong_task()
    parts: dict[str, object] = {
        "ai_topic": task | fail(),
        "ai_solutions": {"code": right},
        "ai_verified_solutions": {"verdict": "PASS"},
    }
    assert int(str(coder.write("ai_reviews", parts, "", "a")["score"])) >= 7


def test_the_same_seed_and_parts_write_the_same() -> None:
    for part in coder.PARTS:
        parts: dict[str, object] = {"ai_topic": brainstorm("", "a")}
        assert coder.write(part, parts, "x", "a") == coder.write(part, parts, "x", "a")
    assert brainstorm("", "a") != brainstorm("", "b")


def test_another_part_is_refused() -> None:
    with pytest.raises(ValueError, match="the coder writes ai_topic"):
        coder.write("story", {}, "", "a")
