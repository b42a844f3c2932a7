"""Weights: the file that `local/PATH.gguf` names, and what is said when it cannot be used."""

import importlib.util
import pathlib

from penstock.errors import SettingsError, did_you_mean

MISSING = "the extra 'local' is not installed. In the checkout: pip install '.[local]'"
#: What every GGUF file begins with.
MAGIC = b"GGUF"


def find(name: str, root: pathlib.Path) -> pathlib.Path:
    """Return the file of `local/NAME`: an absolute path, one under `~`, or one in the project's
    folder `root`. Raises `SettingsError` when there is none, or nothing to run it with."""
    if not name:
        raise SettingsError(
            f"model 'local/{name}': the path is missing: local/PATH.gguf, in the project's folder,"
            " or local//PATH.gguf from the root"
        )
    file = root.absolute() / pathlib.Path(name).expanduser()
    if problem := problem_of(file):
        raise SettingsError(f"model 'local/{name}': {problem}")
    return file


def problem_of(file: pathlib.Path) -> str:
    """Return what keeps `file` from being run, with the way out; '' when it can be."""
    try:
        if file.is_dir():
            return f"{file} is a folder. Name a file in it{_beside(file, '')}"
        with file.open("rb") as opened:
            first = opened.read(len(MAGIC))
    except FileNotFoundError:
        return f"there is no file {file}{_beside(file.parent, file.name)}"
    except OSError as exc:
        return f"{file} cannot be read: {exc.strerror or exc}"
    if first != MAGIC:
        return f"{file} is no GGUF file: it begins with {first!r} and not with {MAGIC!r}"
    return MISSING if importlib.util.find_spec("xllamacpp") is None else ""


def _beside(folder: pathlib.Path, name: str) -> str:
    """What GGUF files there are in `folder`, and which of them was probably meant by `name`."""
    there = sorted(file.name for file in folder.glob("*.gguf"))
    return f".{did_you_mean(name, there)} GGUF files there: {', '.join(there) or 'none'}"
