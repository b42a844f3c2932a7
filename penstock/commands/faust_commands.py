"""Our commands on Faust's command line: `faust -A app NAME`."""

import copy

import click
from faust.cli.base import State, cli, find_app

from penstock.commands.command import Command, Context
from penstock.commands.command_line import SECTIONS
from penstock.commands.worker import worker
from penstock.worker.application import PenstockApp

__all__ = ["worker"]


class AppContext(Context):
    """That of a command for an app which is there already."""

    def __init__(self, app: PenstockApp, as_json: bool) -> None:
        super().__init__(app.settings, as_json)
        self.app = app
        self.project = app.project


def app_context(ctx: click.Context) -> Context:
    """The context of `faust -A app NAME`."""
    state = ctx.ensure_object(State)
    app = find_app(state.app or "")
    assert isinstance(app, PenstockApp)
    return AppContext(app, bool(state.json))


for commands in SECTIONS.values():
    for command in commands:
        if isinstance(command, Command):
            command = copy.copy(command)
            command.context_of = app_context
            cli.add_command(command)
