"""Names that mean something else than a project's author may think: `app`, which the library was
called before, and `agents`, which the OpenAI Agents SDK is imported as."""

import ast
import os
import pathlib
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder

#: What `from penstock import` gives: the names in `penstock.__all__`.
PUBLIC = ("Client", "Work", "step", "tool")


#: What the OpenAI Agents SDK is imported as, and a module of it that is imported here.
SDK, SDK_MODULE = "agents", "agents.usage"


def hidden_sdk(root: pathlib.Path) -> str | None:
    """A sentence about the user's own module that the OpenAI Agents SDK cannot be imported for, or
    that it could not be imported for from the project's folder; None when there is none."""
    for folder in (str(root.absolute()), *sys.path):
        found = PathFinder.find_spec(SDK, [folder])
        if found is None or found.loader is None:
            continue  # a folder without Python, as that of the cards, hides nothing
        if PathFinder.find_spec(SDK_MODULE, found.submodule_search_locations or []):
            return None
        return as_given(
            f"{found.origin}: hides the OpenAI Agents SDK, which is imported as `agents` as well."
            " Give this module another name: agents/ holds cards, and no Python",
            root,
        )
    return None


def old_import(file: pathlib.Path, root: pathlib.Path) -> str | None:
    """A sentence about an import of the library's old name, `app`. Read and not run: `app` may be
    the program around it, which is no library and would be built once more."""
    try:
        source = file.read_bytes()
        statements = list(ast.walk(ast.parse(source))) if b"app" in source else []
    except (OSError, SyntaxError, ValueError):
        return None  # said with its line when it is run
    for node in statements:
        new: ast.stmt
        if isinstance(node, ast.ImportFrom) and not node.level:
            old = [str(node.module)]
            public = all(alias.name in PUBLIC for alias in node.names)
            new = ast.ImportFrom("penstock" if public else _renamed(old[0]), node.names, 0)
        elif isinstance(node, ast.Import):
            old = [alias.name for alias in node.names]
            new = ast.Import([ast.alias(_renamed(a.name), a.asname) for a in node.names])
        else:
            continue
        if any(module.split(".")[0] == "app" and not _is_there(module, root) for module in old):
            return (
                f"{file}:{node.lineno}: the library is called penstock now, and not app."
                f" Write: {ast.unparse(new)}"
            )
    return None


def _renamed(module: str) -> str:
    return module.replace("app", "penstock", 1) if module.split(".")[0] == "app" else module


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


def as_given(text: str, root: pathlib.Path) -> str:
    """`text` with the paths of files as somebody would write them who has named `root` so."""
    return text.replace(f"{root.absolute()}{os.sep}", str(root / "_")[:-1])
