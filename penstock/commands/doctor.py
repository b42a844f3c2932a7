"""`doctor`: is everything there that a pipeline needs? Says what to do about what is not."""

import asyncio
import logging
import pathlib
import shutil
import tempfile
from collections.abc import AsyncIterator

from penstock import private
from penstock.commands.command import Context
from penstock.commands.printing import put_json
from penstock.commands.screens import output
from penstock.conditions import DOWN
from penstock.errors import InstalledTwice, ModelError, PenstockError, SettingsError
from penstock.installation import require_one_installation
from penstock.memory import Memory
from penstock.models.gate import Gates
from penstock.models.names import Target, resolve
from penstock.signals import Signals
from penstock.worker.console import printable
from penstock.worker.health import read_all
from penstock.worker.work import awaitable

#: Less free disk than this, in bytes, is worth a word before it is gone.
LOW_DISK = 200_000_000
#: Seconds that a model has for its sentence.
ASK_S = 60.0

Finding = tuple[bool, str, str]


async def doctor(context: Context) -> int:
    well = True
    async for good, what, text in look(context):
        well = well and good
        if context.as_json:
            put_json({"ok": good, "check": what, "detail": text})
        else:
            mark, style = ("ok", "green") if good else ("✗", "bold red")
            output.print(f"[{style}]{mark:<3}[/] {what:<10}", end=" ")
            output.print(printable(text), markup=False)
    return 0 if well else 1


async def look(context: Context) -> AsyncIterator[Finding]:
    project, settings = context.project, context.settings
    cards, chains = len(project.cards), len(project.chains)
    yield (
        not project.problems,
        "project",
        "\n               ".join(project.problems)
        or f"{cards} cards, {chains} chains in {project.root.absolute()}",
    )
    try:
        require_one_installation()
    except InstalledTwice as exc:
        yield False, "install", exc.message
    for what, folder in (("data", settings.data), ("logs", settings.logs)):
        yield folder_is_well(what, folder)
    for finding in await asyncio.to_thread(_broker, context):
        yield finding
    targets: dict[Target, list[str]] = {}
    for name, card in project.cards.items():
        try:
            targets.setdefault(resolve(card.front.model, settings), []).append(name)
        except PenstockError as exc:
            yield False, "model", f"card '{name}': {exc.message}"
    for target, names in targets.items():
        yield await _model(context, target, names)
    for name in sorted({spec.step for spec in project.stages if spec.step is not None}):
        if name in project.registry.ready:
            yield await _step(context, name)
    if any(card.front.recall is not None for card in project.cards.values()):
        yield await _memory(context)


async def _step(context: Context, name: str) -> Finding:
    try:
        return True, name, await awaitable(context.project.registry.ready[name])(context.settings)
    except PenstockError as exc:
        return False, name, exc.message


async def _memory(context: Context) -> Finding:
    settings = context.settings
    logging.getLogger("penstock.memory").setLevel(logging.CRITICAL)  # it is said below
    workers = read_all(settings.data, settings.app_id)
    found = [one for health in workers for one in health.conditions if one.what == "memory"]
    if found and not settings.qdrant_url:
        # The folder is the worker's, and belongs to one process.
        return found[0].state != DOWN, "memory", f"{found[0].reason} (as the worker says)"
    try:
        memory = Memory(settings)
    except SettingsError as exc:
        return False, "memory", exc.message
    await memory.start()
    try:
        async with asyncio.timeout(ASK_S):
            status = await memory.settled()
    except TimeoutError:
        status = memory.status
    finally:
        await memory.close()
    return status.state == "up", "memory", settings.redact(str(status))


def _broker(context: Context) -> list[Finding]:
    try:
        with context.client() as client:
            well, said = client.broker.check()
            unread = client.unread() if well else []
    except PenstockError as exc:
        return [(False, "broker", exc.message)]
    return [(well, "broker", said), *((False, "topics", str(one)) for one in unread)]


async def _model(context: Context, target: Target, names: list[str]) -> Finding:
    from penstock.models.providers import Providers
    from penstock.worker.runner import ask_once

    providers = Providers(context.settings.redact, Gates(Signals()))
    try:
        _, usage = await ask_once(target, providers, ASK_S)
    except ModelError as exc:
        return (
            False,
            "model",
            f"{context.settings.redact(exc.message)} (cards: {', '.join(names)})",
        )
    finally:
        await providers.close()
    what = "answered" if target.provider != "offline" else "made sample text"
    return (
        True,
        "model",
        (
            f"{usage.model} {what} in {usage.seconds:.2f} s, {usage.tokens}"
            f" (cards: {', '.join(names)})"
        ),
    )


def folder_is_well(what: str, folder: pathlib.Path) -> Finding:
    """Whether `folder` can be written, and has room."""
    try:
        private.make_folder(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as exc:
        return (
            False,
            what,
            (
                f"{folder.absolute()} cannot be written: {exc}."
                f" Name another folder: PENSTOCK_{what.upper()}"
            ),
        )
    if free < LOW_DISK:
        return False, what, f"{folder.absolute()}: only {free / 1e6:.0f} MB are free"
    return True, what, f"{folder.absolute()}, {free / 1e9:.1f} GB free"
