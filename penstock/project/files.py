"""The files that a project is read from, each with a digest, to find what has changed since."""

import contextlib
import hashlib
import pathlib
from collections.abc import Iterable, Mapping

PATTERNS = ("agents/*.md", "topics/*.yaml", "topics/*.yml", "steps/**/*.py", "prices.yaml")


def digest_files(root: pathlib.Path, modules: Iterable[pathlib.Path] = ()) -> dict[str, str]:
    """Return the digest of each of the project's files by its path in `root`: cards, chains, steps,
    prices, and the `modules` beside the steps."""
    found = {file for pattern in PATTERNS for file in root.glob(pattern)} | set(modules)
    digests = {}
    for file in sorted(found):
        with contextlib.suppress(OSError):  # it is gone: that, too, is a change
            digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
            digests[file.relative_to(root).as_posix()] = digest
    return digests


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> tuple[str, ...]:
    """Return the files that are in one of the two only, or differ."""
    return tuple(sorted(name for name in one.keys() | other if one.get(name) != other.get(name)))


def is_card(file: str) -> bool:
    """Return whether a worker that runs can take `file` anew; all else is for the next one."""
    return file.startswith("agents/")


def way_out(files: Iterable[str]) -> str:
    """Return how a worker takes `files`, which have changed."""
    kinds = {is_card(file) for file in files}
    if kinds == {True}:
        return "penstock worker --reload takes them"
    if True in kinds:
        return "penstock worker --reload takes the cards, and a restart all of them"
    return "a restart takes them"
