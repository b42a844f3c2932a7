"""What a card and the settings say of an answer: its limits, and all that the SDK knows."""

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from agents import ModelSettings

from penstock.project.cards import Card, read_card
from penstock.project.model_settings import OURS, settings_of
from penstock.settings import Settings
from penstock.worker.runner import MostTokens, limits_of

Write = Callable[[str], Card]


@pytest.fixture
def write(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)

    def write(front: str) -> Card:
        file = pathlib.Path("bot.md")
        file.write_text(f"---\n{front}\n---\nAnswer.\n")
        return read_card(file)

    return write


ALL = """\
top_p: 0.9
frequency_penalty: 1
presence_penalty: 0.5
seed: 42
stop: [END, STOP]
reasoning_effort: low
repeat_penalty: 1.1
top_k: 40
verbosity: low
tool_choice: required
extra_body: {mirostat: 2}
"""


def test_every_setting_of_the_sdk_and_those_of_many_servers_can_stand_in_a_card(write: Write):
    card = write(ALL)
    assert card.document.problems == []
    settings = ModelSettings(**settings_of(card.front))
    assert (settings.top_p, settings.frequency_penalty, settings.presence_penalty) == (0.9, 1, 0.5)
    assert settings.reasoning is not None and settings.reasoning.effort == "low"
    assert (settings.verbosity, settings.tool_choice) == ("low", "required")
    assert settings.extra_body == {
        "mirostat": 2,
        "seed": 42,
        "stop": ["END", "STOP"],
        "repeat_penalty": 1.1,
        "top_k": 40,
    }
    assert card.front.said_settings["reasoning_effort"] == "low"
    assert card.front.said_settings.keys() == {line.split(":")[0] for line in ALL.splitlines()}


def test_a_card_that_says_nothing_of_the_kind_says_nothing_of_it(write: Write):
    front = write("temperature: 0.2").front
    assert (front.said_settings, front.temperature, front.max_tokens) == ({}, 0.2, 5000)


@pytest.mark.parametrize(
    ("front", "said"),
    [
        ("top_p: often", "bot.md:2: 'top_p' is 'often': "),
        ("seed: 1.5", "bot.md:2: 'seed' is 1.5: "),
        ("reasoning_effort: much", "bot.md:2: 'reasoning_effort' is 'much': "),
        ("extra_body: 3", "bot.md:2: 'extra_body' is 3: "),
        ("repeat_penaltie: 1.1", "unknown key 'repeat_penaltie'. Did you mean 'repeat_penalty'?"),
        ("frequencypenalty: 1", "Did you mean 'frequency_penalty'?"),
        ("max_token: 5", "unknown key 'max_token'. Did you mean 'max_tokens'?"),
        *((f"{name}: 1", f"unknown key '{name}'") for name in OURS),
    ],
)
def test_a_setting_that_is_none_or_has_another_type_is_named_with_its_line(
    write: Write, front: str, said: str
):
    (problem,) = write(front).document.problems
    assert said in problem


@pytest.mark.parametrize(
    ("front", "for_all", "tokens", "where"),
    [
        ("about: x", 0, 5000, "'max_tokens' in bot.md"),
        ("about: x", 400, 400, "PENSTOCK_MAX_TOKENS"),
        ("about: x", 9000, 9000, "PENSTOCK_MAX_TOKENS"),
        ("max_tokens: 300", 400, 300, "'max_tokens' in bot.md"),
        ("max_tokens: 500", 400, 400, "PENSTOCK_MAX_TOKENS"),
    ],
)
def test_a_limit_for_all_cards_counts_where_a_card_says_nothing_or_more(
    write: Write, front: str, for_all: int, tokens: int, where: str
):
    card = write(front)
    assert MostTokens.of(card, Settings(max_tokens=for_all))[:2] == (tokens, where)
    seconds: dict[str, Any] = {"timeout_s": float(for_all)}
    front = front.replace("max_tokens", "timeout_s")
    total = limits_of(write(front), Settings(**seconds)).total
    expected = 600 if tokens == 5000 else tokens
    assert total.seconds == expected
    assert total.where == where.replace("max_tokens", "timeout_s").replace(
        "MAX_TOKENS", "TIMEOUT_S"
    )


def test_the_limits_of_silence_stand_in_a_card(write: Write):
    limits = limits_of(write("first_token_s: 5\ntoken_timeout_s: 2.5"), Settings())
    assert limits.first_token == (5, "'first_token_s' in bot.md")
    assert limits.token == (2.5, "'token_timeout_s' in bot.md")
