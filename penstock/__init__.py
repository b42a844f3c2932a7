"""Penstock: multi-agent LLM pipelines on topics. `faust -A app worker` runs them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.worker.application import PenstockApp

    app: PenstockApp

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Built when somebody asks for it: `import penstock.client` reads no project and makes no app.
    if name == "app":
        import penstock.commands.faust_commands  # noqa: F401 - `faust -A penstock NAME`
        from penstock.main import build

        value = globals()["app"] = build()
        return value
    raise AttributeError(f"module 'penstock' has no attribute {name!r}")
