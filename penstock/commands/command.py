"""A command of ours: what the command line knows of it, and the function that it runs.

One sentence and exit code 1 for a user's mistake, never a traceback.
"""

import contextlib
import functools
import importlib
import inspect
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from penstock.commands.printing import complain, say
from penstock.errors import PenstockError
from penstock.settings import Settings

if TYPE_CHECKING:
    from penstock.client import Client
    from penstock.project.project import Project
    from penstock.worker.application import PenstockApp


class Context:
    """What a command's function is given. Project and app are made when it asks for them: an app
    takes Faust, which is more than all the rest of most commands."""

    def __init__(self, settings: Settings, as_json: bool = False) -> None:
        self.settings = settings
        #: Whether programs read what is printed.
        self.as_json = as_json

    @functools.cached_property
    def project(self) -> "Project":
        from penstock.project.project import read_project

        return read_project(self.settings.root)

    @functools.cached_property
    def app(self) -> "PenstockApp":
        """For what runs a worker in this process."""
        from penstock.worker.build import build

        return build(self.settings, self.project)

    def client(self) -> "Client":
        from penstock.client import Client

        return Client(self.settings, self.project)


def own_context(ctx: click.Context) -> Context:
    """The context of `penstock NAME`."""
    return Context(Settings.read(), as_json=bool(ctx.find_root().params.get("as_json")))


class Command(click.Command):
    """A command by its name and the `module:function` under `penstock.commands` that does it. That
    one is imported when it runs: help and completion need none."""

    def __init__(self, name: str, does: str, help: str, *params: click.Parameter) -> None:
        super().__init__(name, params=list(params), help=help)
        self.does = does
        #: Faust's command line makes another one.
        self.context_of: Callable[[click.Context], Context] = own_context

    def invoke(self, ctx: click.Context) -> None:
        """Run it and exit with its code."""
        context = self.context_of(ctx)
        options = dict(ctx.params)
        # Faust has --json before the command, and so have we; ours stands after it, too.
        context.as_json |= options.pop("as_json", False)
        with exits_cleanly(context.settings.database):
            code = self.function()(context, **options)
            if inspect.iscoroutine(code):
                import asyncio

                code = asyncio.run(code)
        ctx.exit(code or 0)

    def function(self) -> Callable[..., Any]:
        module, _, name = self.does.partition(":")
        found: Callable[..., Any] = getattr(
            importlib.import_module(f"penstock.commands.{module}"), name
        )
        return found


@contextlib.contextmanager
def exits_cleanly(database: pathlib.Path) -> Iterator[None]:
    """Inside, a `PenstockError` or a damaged database is one sentence and exits with 1; Ctrl-C
    exits with 130."""
    try:
        yield
    except PenstockError as exc:
        complain(exc.message)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        say("Interrupted.")
        raise SystemExit(130) from None
    except BrokenPipeError:
        # Whoever read has had enough. What is left is not written at Python's end, either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except Exception as exc:
        import sqlite3

        from penstock.broker.embedded.file import explain

        if not isinstance(exc, sqlite3.DatabaseError):
            raise
        complain(explain(database, exc))
        raise SystemExit(1) from None
