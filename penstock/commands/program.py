"""The program `penstock`: our commands, and Faust's worker under the same roof."""

import difflib
import itertools
import sys

import click

from penstock.commands.command_line import SECTIONS
from penstock.commands.printing import complain


class Program(click.Group):
    """Our commands in their sections. A mistake on the command line is one sentence."""

    def __init__(self) -> None:
        super().__init__(
            "penstock",
            params=[
                click.Option(["--json", "as_json"], is_flag=True, help="Print JSON, for programs."),
                click.Option(
                    ["--version"],
                    is_flag=True,
                    is_eager=True,
                    expose_value=False,
                    callback=_show_version,
                    help="Show the version and exit.",
                ),
            ],
            help="Pipelines of LLM agents that lose nothing and pay for no answer twice.",
            epilog="penstock COMMAND --help says more of each. The worker is Faust's: it also takes"
            " Faust's options, and faust -A penstock --help lists Faust's own commands.",
        )
        for commands in SECTIONS.values():
            for command in commands:
                self.add_command(command)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max(map(len, self.commands))
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl(
                    [(f"{one.name:<{widest}}", one.get_short_help_str(100)) for one in commands]
                )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands:
            close = difflib.get_close_matches(args[0], self.commands, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            ctx.fail(f"No such command '{args[0]}'.{hint}")
        return super().resolve_command(ctx, args)


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        click.echo(f"penstock {importlib.metadata.version('penstock-agents')}")
        ctx.exit()


#: What may stand before a command here. With anything else there it is Faust's command line, which
#: has all of our commands, too: `penstock -A my.app status`.
OWN_OPTIONS = {"--json", "--version", "--help"}


def main() -> None:
    """Run the command line and exit with its code."""
    arguments = sys.argv[1:]
    before = list(itertools.takewhile(lambda one: one.startswith("-"), arguments))
    if set(before) <= OWN_OPTIONS and arguments[len(before) : len(before) + 1] != ["worker"]:
        raise SystemExit(_run(Program(), arguments or ["--help"]))
    # In place: Faust's group has this very list as the default of its look for -A.
    if not any(one == "-A" or one.startswith("--app") for one in arguments):
        sys.argv[1:1] = ["-A", "penstock"]
    if before:
        import faust.cli.faust  # noqa: F401 - has Faust's own commands registered
    from faust.cli.base import cli

    raise SystemExit(_run(cli, sys.argv[1:]))


def _run(group: click.Group, arguments: list[str]) -> int:
    try:
        return int(group.main(arguments, prog_name="penstock", standalone_mode=False) or 0)
    except click.UsageError as exc:
        message = exc.format_message()
        stop = "" if message.endswith((".", "?", "!", ")")) else "."
        path = exc.ctx.command_path if exc.ctx is not None else "penstock"
        complain(f"{message}{stop} See: {path} --help")
        return exc.exit_code
    except click.ClickException as exc:
        complain(exc.format_message())
        return exc.exit_code
    except click.Abort:
        return 130
