"""Fixtures of the acceptance tests: a place of one's own, and the servers."""

import pathlib

import pytest

from tests.acceptance.places import Place
from tests.servers.fixtures import llama, scripted, scripted_process

__all__ = ["llama", "place", "scripted", "scripted_process"]


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Place:
    """Nothing is there yet, and nothing is seeded."""
    return Place(tmp_path, PENSTOCK_SEED="0")
