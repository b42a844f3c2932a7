"""The command `status`: how the workers are, and all that they need."""

import time

import msgspec

from penstock.commands.command import Context
from penstock.commands.printing import put, put_json
from penstock.conditions import DOWN, UP
from penstock.worker.console import printable
from penstock.worker.health import Health, read_all

STYLES = {UP: "green", DOWN: "bold red"}


def status(context: Context) -> int:
    settings = context.settings
    found = read_all(settings.data, settings.app_id)
    if context.as_json:
        rows = [{**msgspec.to_builtins(one), "silent": one.is_silent} for one in found]
        put_json(rows)
    elif not found:
        put(f"No worker says anything in {settings.data.absolute()}. Start one: penstock worker")
    for health in () if context.as_json else found:
        show(health)
    well = all(
        not one.is_silent and all(condition.state != DOWN for condition in one.conditions)
        for one in found
    )
    return 0 if well and found else 1


def show(health: Health) -> None:
    from rich.text import Text

    from penstock.commands.screens import output

    line = Text(f"worker {health.worker} (pid {health.pid} on {health.host})", style="bold")
    if health.is_killed:
        line.append("  was killed: no such process", style="bold red")
    elif health.is_silent:
        line.append(f"  no word for {time.time() - health.written:.0f} s", style="bold red")
    output.print(line)
    for condition in health.conditions:
        since = ""
        if condition.since is not None:
            since = f" since {time.strftime('%H:%M:%S', time.localtime(condition.since))}"
        output.print(
            Text.assemble(
                f"  {condition.what:<8} ",
                (f"{condition.state}{since}", STYLES.get(condition.state, "yellow")),
                f"  {printable(condition.reason)}",
            )
        )
