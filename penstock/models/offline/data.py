"""The offline model's texts and tasks: YAML files, each read once, when it is first needed."""

import functools
import pathlib
from typing import Any

import msgspec

_FOLDER = pathlib.Path(__file__).parent / "data"


@functools.cache
def load(name: str) -> Any:
    """Return what `data/NAME.yaml` holds; of a folder its files by name, in alphabetical order."""
    path = _FOLDER / name
    if path.is_dir():
        return {file.stem: load(f"{name}/{file.stem}") for file in sorted(path.glob("*.yaml"))}
    return msgspec.yaml.decode(path.with_suffix(".yaml").read_bytes())
