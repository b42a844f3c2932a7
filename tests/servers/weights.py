"""Weights of real models, brought once with `make weights` into a folder beside the environment."""

import importlib.util
import os
from pathlib import Path


class WeightsMissing(Exception):
    """The weights of two small real models are not here: make weights (177 MB, once)."""

    def __str__(self) -> str:
        return str(self.__doc__)


def find(pattern: str, needed: str) -> Path:
    """What matches `pattern` among the weights. Raises `WeightsMissing`, also without the package
    `needed`, which runs them."""
    cache = os.environ.get("PENSTOCK_TEST_CACHE") or Path.home() / ".cache" / "penstock"
    found = sorted(Path(cache).glob(f"weights-*/{pattern}"))
    if not found or importlib.util.find_spec(needed) is None:
        raise WeightsMissing
    return found[-1]
