"""Penstock: multi-agent LLM pipelines on topics. `penstock worker` runs them.

    from penstock import Client, Work, step, tool

is all that a program or a step needs. None of it is imported before it is asked for: `import
penstock` costs nothing, reads no project and makes no app.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.client import Client
    from penstock.steps import Work, step, tool
    from penstock.worker.application import PenstockApp

    app: PenstockApp

__all__ = ["Client", "Work", "step", "tool"]
__version__ = "0.1.0"

_HOMES = {"Client": "client", "Work": "steps", "step": "steps", "tool": "steps"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"penstock.{_HOMES[name]}"), name)
    elif name == "app":  # what Faust looks for in the module that -A names
        import penstock.commands.faust_commands  # noqa: F401 - `faust -A penstock NAME`
        from penstock.main import build

        value = build()
    else:
        raise AttributeError(f"module 'penstock' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
