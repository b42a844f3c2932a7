"""The command `sandbox`: runs one file as the mesh would, or makes it ready for that."""

import dataclasses
import pathlib
import sys
from typing import cast

from penstock import sandbox as sandboxes
from penstock.commands.command import Context
from penstock.commands.printing import put, put_json, say
from penstock.errors import SettingsError
from penstock.sandbox import Tier, run_code, verdict
from penstock.steps.sandbox import limits_of
from penstock.worker.console import printable


async def sandbox(
    context: Context, file: str | None, stdin: str | None, expected: str | None, warm_up: bool
) -> int:
    settings = context.settings
    tier = cast(Tier, settings.sandbox)
    if warm_up:
        put(await sandboxes.warm_up(tier))
        return 0
    if file is None:
        raise SettingsError("Name the file to run: penstock sandbox FILE")
    wanted = None if expected is None else _read(expected)
    outcome = await run_code(
        _read(file),
        "" if stdin is None else _read(stdin),
        limits_of(settings),
        tier,
    )
    found = verdict(outcome, wanted)
    if context.as_json:
        fields = dataclasses.asdict(outcome) | dataclasses.asdict(found)
        put_json(fields)
    else:
        if outcome.stdout:
            put(printable(outcome.stdout.rstrip("\n")))
        if outcome.stderr:
            say(printable(outcome.stderr.rstrip("\n")))
        why = f": {found.cause}, {found.detail}" if found.cause else ""
        say(
            printable(f"{found.result}{why} ({outcome.seconds:.2f} s)"),
            style="green" if found.result == "PASS" else "red",
        )
    return 0 if found.result == "PASS" else 1


def _read(name: str) -> str:
    try:
        if name == "-":
            return sys.stdin.read()
        return pathlib.Path(name).read_text(encoding="utf-8")
    except OSError as exc:
        raise SettingsError(f"{name} cannot be read: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise SettingsError(f"{name} cannot be read: {exc}") from exc
