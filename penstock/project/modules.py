"""A project's own Python: `steps/*.py`, and the modules beside that folder that they import.

The files of `steps/` are the modules `steps.NAME`. What they import is looked for in the project's
folder first, as for a script that stands there. Only what they import: no library, and no program
that uses a client of the project, finds a module there that it did not mean.

The names in `sys.modules` are those of the project that was read last. Functions of one that was
read before keep what they have imported; an import inside of them, when they run after that, finds
the other project's module.
"""

import ast
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
from types import ModuleType

import penstock
from penstock.errors import ProjectError
from penstock.steps import Registry

STEPS = "steps"
#: What the OpenAI Agents SDK is imported as, and a module of it that is imported here.
SDK, SDK_MODULE = "agents", "agents.usage"

#: Of the projects that were read: the next one's modules take the place of theirs.
_read: list["_Finder"] = []
#: One project at a time, as all name their modules alike. A step may read a project, too.
_lock = threading.RLock()


def load_steps(root: pathlib.Path, registry: Registry) -> dict[pathlib.Path, str]:
    """Run each steps/*.py of `root` once, also where others import it; their steps and tools are in
    `registry`. Returns the files that could not be run, each with a sentence that says why."""
    problems: dict[pathlib.Path, str] = {}
    files = sorted((root / STEPS).glob("*.py"))
    if not files:
        return problems
    with _lock, registry.collecting(), _importable(root) as finder:
        for file in files:
            try:
                old = _old_import(file, finder.root)
                if old is None:
                    _run(file)
                else:
                    problems[file] = old
            except (Exception, SystemExit) as exc:
                registry.drop_failed()
                problems[file] = _as_given(_sentence(exc, file.absolute(), finder), root)
    return problems


def hidden_sdk(root: pathlib.Path) -> str | None:
    """A sentence about the user's own module that the OpenAI Agents SDK cannot be imported for, or
    that it could not be imported for from the project's folder; None when there is none."""
    for folder in (str(root.absolute()), *sys.path):
        found = PathFinder.find_spec(SDK, [folder])
        if found is None or found.loader is None:
            continue  # a folder without Python, as that of the cards, hides nothing
        if PathFinder.find_spec(SDK_MODULE, found.submodule_search_locations or []):
            return None
        return _as_given(
            f"{found.origin}: hides the OpenAI Agents SDK, which is imported as `agents` as well."
            " Give this module another name: agents/ holds cards, and no Python",
            root,
        )
    return None


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
    while frame.f_back is not None and _top(frame.f_globals.get("__name__", "")) == "importlib":
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))


@contextlib.contextmanager
def _importable(root: pathlib.Path) -> Iterator[_Finder]:
    """Inside, `steps` is the project's, and afterwards, unless the program has a `steps` of its own
    or a step of another project is reading this one: those get their name back."""
    while _read:
        before = _read.pop()
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


def _sentence(exc: BaseException, file: pathlib.Path, finder: _Finder) -> str:
    """What is wrong, with the last place in the project's own modules that it came through."""
    place, line = str(file), 1
    for frame, number in traceback.walk_tb(exc.__traceback__):
        here = frame.f_code.co_filename
        if finder.owns(frame.f_globals.get("__name__", "")) and os.path.isabs(here):
            place, line = here, number
    if isinstance(exc, SyntaxError) and os.path.isabs(exc.filename or ""):
        place, line = str(exc.filename), exc.lineno or 1
    if isinstance(exc, ProjectError):
        return f"{place}: {exc.message}"
    return f"{place}:{line}: {type(exc).__name__}: {exc}"


def _old_import(file: pathlib.Path, root: pathlib.Path) -> str | None:
    """A sentence about an import of the library's old name, `app`. Read and not run: `app` may be
    the program around it, which is no library and would be built once more."""
    source = file.read_bytes()
    if b"app" not in source:
        return None
    try:
        statements = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return None  # said with its line when it is run
    for node in statements:
        new: ast.stmt
        if isinstance(node, ast.ImportFrom) and not node.level:
            old = [str(node.module)]
            public = all(alias.name in penstock.__all__ for alias in node.names)
            new = ast.ImportFrom("penstock" if public else _renamed(old[0]), node.names, 0)
        elif isinstance(node, ast.Import):
            old = [alias.name for alias in node.names]
            new = ast.Import([ast.alias(_renamed(a.name), a.asname) for a in node.names])
        else:
            continue
        if any(_top(module) == "app" and not _is_there(module, root) for module in old):
            return (
                f"{file}:{node.lineno}: the library is called penstock now, and not app."
                f" Write: {ast.unparse(new)}"
            )
    return None


def _renamed(module: str) -> str:
    return module.replace("app", "penstock", 1) if _top(module) == "app" else module


def _is_there(module: str, root: pathlib.Path) -> bool:
    """Whether the module could be imported, beside the steps or else; nothing is."""
    parts = module.split(".")
    folders: Sequence[str] = [str(root), *sys.path]
    for end in range(1, len(parts) + 1):
        found = PathFinder.find_spec(".".join(parts[:end]), folders)
        if found is None:
            return False
        folders = found.submodule_search_locations or []
    return True


def _as_given(text: str, root: pathlib.Path) -> str:
    """`text` with the paths of files as somebody would write them who has named `root` so."""
    return text.replace(f"{root.absolute()}{os.sep}", str(root / "_")[:-1])


def _top(module: str) -> str:
    return module.partition(".")[0]
