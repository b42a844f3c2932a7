"""The data files of the offline model: read late, and whole."""

import subprocess
import sys

import pytest

from penstock.models.offline import stories
from penstock.models.offline.data import load
from tests.programs import ROOT


def test_an_import_reads_no_data() -> None:
    code = (
        "from penstock.models.offline import coder, data, filling, replies, stories;"
        " print(data.load.cache_info().currsize)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "0\n"


@pytest.mark.parametrize("word", load("traits")["named"])
def test_every_trait_is_used(word: str) -> None:
    parts = {"premise": f"A {word} robot called Bolt"}
    begin = load("traits")["named"][word]["text"].replace("{Hero}", "Bolt").partition("{")[0]
    assert begin and begin in stories.tell("story", parts, "a")


def test_every_location_and_helper_is_met() -> None:
    plots = [
        stories.tell("plot", {"premise": "Tim the Flying Dog"}, str(seed)) for seed in range(80)
    ]
    names = [one["place"] for one in load("places")] + [
        one["name"] for one in load("people")["helpers"]
    ]
    assert not [name for name in names if not any(name in plot for plot in plots)]


def test_every_plot_of_a_kind_of_hero_is_there_and_every_plot_has_a_hero() -> None:
    fitting = [name for one in load("telling")["heroes"].values() for name in one["plots"]]
    assert set(fitting) == set(load("plots"))
