"""A project's own Python: `steps/*.py`, and the modules beside that folder that they import.

The files of `steps/` are the modules `steps.NAME`. What they import is looked for in the project's
folder first, as for a script that stands there. Only what they import: no library, and no program
that uses a client of the project, finds a module there that it did not mean.

The names in `sys.modules` are those of the project that was read last. Functions of one that was
read before keep what they have imported; an import inside of them, when they run after that, finds
the other project's module.
"""

import contextlib
import importlib.abc
import importlib.util
import os
import pathlib
import sys
import threading
import traceback
from collections.abc import Collection, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import FrameType, ModuleType

from penstock.errors import ProjectError
from penstock.project.taken_names import SDK, as_given, old_import
from penstock.steps import Registry

STEPS = "steps"
#: Of the projects that were read: the next one's modules take the place of theirs.
_read: list["_Finder"] = []
#: One project at a time, as all name their modules alike. A step may read a project, too.
_lock = threading.RLock()


def load_steps(root: pathlib.Path, registry: Registry) -> dict[pathlib.Path, str]:
    """Run each steps/*.py of `root` once, also where others import it; their steps and tools are in
    `registry`. Returns the files that could not be run, each with a sentence that says why."""
    files = sorted((root / STEPS).glob("*.py"))
    old = {file: said for file in files if (said := old_import(file, root)) is not None}
    if old:
        # None is run: the others may import these.
        return {file: old.get(file, next(iter(old.values()))) for file in files}
    problems: dict[pathlib.Path, str] = {}
    if not files:
        return problems
    with _lock, registry.collecting(), _importable(root) as finder:
        for file in files:
            try:
                _run(file)
            except (Exception, SystemExit) as exc:
                registry.drop_failed()
                where, line = _where(exc, finder) or (str(file.absolute()), 1)
                said = f"{type(exc).__name__}: {exc}"
                if isinstance(exc, ProjectError):
                    said = exc.message
                problems[file] = as_given(f"{where}:{line}: {' '.join(said.split())}", root)
    return problems


def imported_files(root: pathlib.Path) -> list[pathlib.Path]:
    """Return the files of the modules beside steps/ that the project in `root` has imported. It
    was read last."""
    owned = [one for one in _read if one.root == root.absolute()]
    return [
        root / file.relative_to(root.absolute())
        for name, module in list(sys.modules.items())
        if any(_top(name) in one.names for one in owned)
        for file in [pathlib.Path(getattr(module, "__file__", None) or "")]
        if file.is_relative_to(root.absolute())
    ]


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of one project, for its own modules only."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        #: The packages and modules that were found, by their first names.
        self.names: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        # Below a package that was found Python looks by itself. The SDK is never the project's.
        if path is not None or name == SDK or not (name == STEPS or self.owns(_importer())):
            return None
        found = PathFinder.find_spec(name, [str(self.root)])
        if found is None:
            return None
        if found.loader is None:
            # A folder without __init__.py: an installed package has precedence, as on sys.path.
            # Python's own kind of it would take in other folders of that name.
            if name != STEPS and PathFinder.find_spec(name) is not None:
                return None
            found = ModuleSpec(name, None, is_package=True)
            found.submodule_search_locations = [str(self.root / name)]
        if name != STEPS:
            self.names.add(name)
        return found

    def owns(self, module: str) -> bool:
        return _top(module) == STEPS or _top(module) in self.names


def _importer() -> str:
    """The name of the module whose import is looked up."""
    frame = sys._getframe(2)
    while frame.f_back is not None and _top(_name(frame)) == "importlib":
        frame = frame.f_back
    return _name(frame)


def _name(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


@contextlib.contextmanager
def _importable(root: pathlib.Path) -> Iterator[_Finder]:
    """Inside, `steps` is the project's, and afterwards, unless the program has a `steps` of its own
    or a step of another project is reading this one: those get their name back."""
    while _read:
        before = _read.pop()
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(before)
        _take_out(before.names)
    importlib.invalidate_caches()  # files may have come within a tick of the file system's clock
    others = _take_out([STEPS])
    finder = _Finder(root.absolute())
    sys.meta_path.insert(0, finder)
    try:
        yield finder
    finally:
        if others:
            _take_out([STEPS])
            sys.modules.update(others)
        else:
            finder.names.add(STEPS)
        _read.append(finder)


def _take_out(tops: Collection[str]) -> dict[str, ModuleType]:
    """The modules of these names, which can be imported anew."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if _top(name) in tops}


def _run(file: pathlib.Path) -> None:
    package = importlib.import_module(STEPS)
    name = f"{STEPS}.{file.stem}"
    if file.stem == "__init__" or name in sys.modules:
        return  # it has run: another file has imported it
    # Not by its name, which may be none that Python could import (v1.2.py).
    found = importlib.util.spec_from_file_location(name, file)
    assert found is not None and found.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    setattr(package, file.stem, module)


def _where(exc: BaseException, finder: _Finder) -> tuple[str, int] | None:
    """The file and the line of the project's own modules that it came through last."""
    found = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(exc.__traceback__)
        if finder.owns(_name(frame))
    ]
    if isinstance(exc, SyntaxError):
        found.append((exc.filename or "", exc.lineno or 1))
    # Not <string>, which was made out of a text.
    return next((where for where in reversed(found) if os.path.isabs(where[0])), None)


def _top(module: str) -> str:
    return module.partition(".")[0]
