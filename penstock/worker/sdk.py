"""Loading the Agents SDK, without what it brings along and nobody here asks for."""

import importlib
import importlib.machinery
import importlib.util
import sys
import threading
import types
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder

#: Clients of MCP servers. The SDK wants an exception of it, from a module below; `import mcp` makes
#: some 500 models of Pydantic's, which take a worker as long as all else that it imports.
LATER = "mcp"


def load_sdk() -> None:
    """Import the SDK and all of ours that calls it, but of MCP only what the SDK cannot do without:
    the rest comes when somebody uses it."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        importlib.import_module("penstock.worker.runner")
    finally:
        sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    """Finds the package as Python does, to be run later."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != LATER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Later(spec.loader)
        return spec


class _Later(Loader):
    """Runs a package's own code when it is asked for a name that it has not. Modules below it can
    be imported before; `importlib.util.LazyLoader` would run it for those."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def exec_module(self, module: types.ModuleType) -> None:
        module.__class__ = _Package


class _Package(types.ModuleType):
    def __getattr__(self, name: str) -> object:
        with _running:
            spec = self.__spec__
            if spec is not None and isinstance(spec.loader, _Later):
                later, spec.loader = spec.loader, spec.loader.loader
                try:
                    spec.loader.exec_module(self)
                except BaseException:
                    spec.loader = (
                        later  # as Python does with an import that fails: it is tried again
                    )
                    raise
            if name in self.__dict__:
                return self.__dict__[name]
        raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")


#: Held by the thread that runs the package; others wait for what it defines.
_running = threading.RLock()
