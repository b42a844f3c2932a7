"""A command of ours: one sentence and exit code 1 for a user's mistake, never a traceback."""

import asyncio
import pathlib
import sqlite3
from typing import Any, NoReturn

from faust.cli.base import AppCommand, option

from penstock.broker.embedded.file import explain
from penstock.commands.screens import say
from penstock.errors import PenstockError
from penstock.worker.application import PenstockApp

json_option = option(
    "--json", "as_json", is_flag=True, show_default=False, help="Print JSON, for programs."
)


class Command(AppCommand):
    """Runs `run()` on a loop of its own, without Faust's worker around it."""

    abstract = True
    app: PenstockApp

    async def run(self, **options: Any) -> int | None:
        """What the command does; its exit code."""
        raise NotImplementedError

    def __call__(self, *args: Any, **options: Any) -> NoReturn:
        with exits_cleanly(self.app.settings.database):
            code = asyncio.run(self.run(**self.kwargs))
        raise SystemExit(code or 0)

    def wants_json(self, as_json: bool) -> bool:
        """Faust's own --json stands before the command, ours after it."""
        return as_json or bool(self.state.json)


class exits_cleanly:
    """Inside, a `PenstockError` or a damaged database is one sentence and exits with 1; Ctrl-C
    exits with 130."""

    def __init__(self, database: pathlib.Path) -> None:
        self.database = database

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, PenstockError):
            say(f"Error: {error.message}", style="red")
            raise SystemExit(1) from None
        if isinstance(error, sqlite3.DatabaseError):
            say(f"Error: {explain(self.database, error)}", style="red")
            raise SystemExit(1) from None
        if isinstance(error, KeyboardInterrupt):
            say("Interrupted.")
            raise SystemExit(130) from None
        if isinstance(error, BrokenPipeError):
            raise SystemExit(0) from None
