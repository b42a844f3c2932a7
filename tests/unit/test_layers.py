"""The layers: a module imports only from those above it, and no two import each other."""

import ast
import functools
import pathlib
from collections.abc import Iterator

import penstock

ROOT = pathlib.Path(penstock.__file__).parent

#: From the ground up to what people use. Each imports only from lines above it, and from what
#: stands left of it on its own.
LAYERS = """\
errors redaction settings backoff conditions crash private programs installation
journal
record
signals under_way
sandbox
models
memory
broker
steps
project
runs
worker
jobs chat
client
web commands
testing
main __init__ __main__
"""
Import = tuple[str, str]


def modules() -> dict[str, pathlib.Path]:
    """Every module of the library by its name within it. A package is its `__init__`."""
    found = {}
    for file in sorted(ROOT.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        # What a new project begins with is the project's, and the sandbox's is another program.
        if "scaffold" not in parts:
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name or "__init__"] = file
    return found


@functools.cache
def imports() -> tuple[Import, ...]:
    return tuple(_imports())


def _imports() -> Iterator[Import]:
    """Each import of one of our modules by another, wherever it stands: those for types too."""
    known = modules()
    for name, file in known.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for imported in _imported(node):
                if not imported.startswith("penstock"):
                    continue
                # `from penstock.record import events` is of the module, if there is one.
                inner = imported.removeprefix("penstock").removeprefix(".")
                while inner and inner not in known:
                    inner = inner.rpartition(".")[0]
                if (inner or "__init__") != name:
                    yield name, inner or "__init__"


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def layer(module: str) -> str:
    return module.partition(".")[0]


def positions() -> dict[str, tuple[int, int]]:
    """Of each layer its line, and how far right it stands there."""
    lines = [line.split() for line in LAYERS.splitlines()]
    return {name: (y, x) for y, line in enumerate(lines) for x, name in enumerate(line)}


def test_every_module_has_its_layer():
    assert {layer(module) for module in modules()} - positions().keys() == set()


def test_no_module_imports_from_a_line_below():
    position = positions()
    wrong = {
        (module, imported)
        for module, imported in imports()
        if position[layer(imported)] > position[layer(module)]
    }
    assert sorted(wrong) == []


def test_no_two_modules_import_each_other():
    """Neither directly nor by way of others. A package and what is in it are one thing."""
    graph: dict[str, set[str]] = {}
    for module, imported in imports():
        # A package's own `__init__` is imported with whatever is in it.
        if not module.startswith(f"{imported}."):
            graph.setdefault(module, set()).add(imported)
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way[way.index(module) :], module))
        if module not in done:
            for imported in sorted(graph.get(module, ())):
                visit(imported, (*way, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())
