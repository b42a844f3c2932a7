"""What this Python has installed: one distribution brings Penstock, and no other a part of it."""

import importlib.metadata
import os
from collections.abc import Iterator

from penstock.errors import InstalledTwice

DISTRIBUTION = "penstock-agents"
PACKAGE, MODULE = "penstock", "penstock/__init__.py"
#: What the shell and Faust find by its name, of however many there are: group and name.
ENTRY_POINTS = {
    "the command 'penstock'": ("console_scripts", "penstock"),
    "the transport 'sqlite'": ("faust.transports", "sqlite"),
}


def version() -> str:
    """Return the version that is installed; "" where Penstock is only on the path."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return ""


def require_one_installation() -> None:
    """Raises `InstalledTwice` where two distributions bring the package, the command or the
    transport. Looks into all that is installed, some 20 ms: for a worker, not for each command."""
    found: dict[str, set[str]] = {}
    for distribution in importlib.metadata.distributions():
        for what in _brings(distribution):
            found.setdefault(what, set()).add(str(distribution.name).replace("_", "-").lower())
    twice = {what: names for what, names in found.items() if len(names) > 1}
    if not twice:
        return
    names = sorted(set[str]().union(*twice.values()))
    raise InstalledTwice(
        f"{' and '.join(names)} both bring {' and '.join(twice)}, and which one is found is chance."
        f" Uninstall what is not meant (pip uninstall"
        f" {' '.join(name for name in names if name != DISTRIBUTION)}) and then install"
        f" {DISTRIBUTION} again, of whose files that may have taken some"
    )


def _brings(distribution: importlib.metadata.Distribution) -> Iterator[str]:
    points = distribution.read_text("entry_points.txt") or ""
    if "penstock" in points or "sqlite" in points:  # parsing all of them takes twice as long
        for what, (group, name) in ENTRY_POINTS.items():
            if distribution.entry_points.select(group=group, name=name):
                yield what
    packages = distribution.read_text("top_level.txt")
    if packages is None and os.path.exists(str(distribution.locate_file(MODULE))):
        # Only setuptools writes that; and only beside a package of the name are the files read.
        files = "\n" + (distribution.read_text("RECORD") or "")
        packages = PACKAGE if f"\n{MODULE}," in files else ""
    if PACKAGE in (packages or "").split():
        yield f"the package '{PACKAGE}'"
