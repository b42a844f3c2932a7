"""`doctor`: is everything there that a pipeline needs? Says what to do about what is not."""

import asyncio
import json
import logging
import pathlib
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from typing import Any, cast

from penstock.broker.embedded.file import damaged
from penstock.broker.embedded.store import Store
from penstock.commands.command import Context
from penstock.commands.screens import output
from penstock.errors import (
    BrokerUnavailable,
    ModelError,
    PenstockError,
    SandboxUnavailable,
    SettingsError,
)
from penstock.memory import Memory
from penstock.models.names import Target, resolve
from penstock.worker.console import printable
from penstock.worker.health import DOWN, read_all

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
            output.print_json(json.dumps({"ok": good, "check": what, "detail": text}), indent=None)
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
    for what, folder in (("data", settings.data), ("logs", settings.logs)):
        yield folder_is_well(what, folder)
    yield await asyncio.to_thread(_broker, context)
    targets: dict[Target, list[str]] = {}
    for name, card in project.cards.items():
        try:
            targets.setdefault(resolve(card.front.model, settings), []).append(name)
        except PenstockError as exc:
            yield False, "model", f"card '{name}': {exc.message}"
    for target, names in targets.items():
        yield await _model(context, target, names)
    if any(spec.step == "sandbox" for spec in project.stages):
        yield await _sandbox(context)
    if any(card.front.recall is not None for card in project.cards.values()):
        yield await _memory(context)


async def _sandbox(context: Context) -> Finding:
    from penstock.sandbox import self_test

    tier: Any = context.settings.sandbox
    try:
        await self_test(tier)
    except SandboxUnavailable as exc:
        return False, "sandbox", exc.message
    return True, "sandbox", f"{tier}: holds; its self-test found no way out"


async def _memory(context: Context) -> Finding:
    settings = context.settings
    logging.getLogger("penstock.memory").setLevel(logging.CRITICAL)  # it is said below
    workers = read_all(settings.data, settings.app_id)
    told = [part for one in workers for part in one.parts if part.what == "memory"]
    if told and not settings.qdrant_url:
        # The folder is the worker's, and belongs to one process.
        return told[0].state != DOWN, "memory", f"{told[0].detail} (as the worker says)"
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


def _broker(context: Context) -> Finding:
    settings = context.settings
    if not settings.embedded:
        return _kafka(context)
    try:
        store = Store(settings.database)
        (found,) = store.reader.execute("pragma quick_check(1)").fetchone()
    except PenstockError as exc:
        return False, "broker", exc.message
    except sqlite3.DatabaseError as exc:
        found = str(exc)
    if found != "ok":
        return False, "broker", damaged(settings.database, Exception(found))
    runs = "a worker is running" if store.lock.is_held() else "no worker is running"
    size = sum(
        file.stat().st_size for file in settings.database.parent.glob(settings.database.name + "*")
    )
    return True, "broker", f"{settings.database}, {size / 1e6:.1f} MB; {runs}"


def _kafka(context: Context) -> Finding:
    from penstock.broker.kafka import topics as kafka_topics
    from penstock.broker.kafka.connection import connection
    from penstock.broker.kafka.reading import KafkaReader

    settings = context.settings
    # What its driver would log is said below, once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    client = context.client()
    reader = cast(KafkaReader, client.reader)
    try:
        runs = "a worker is running" if client.worker_running() else "no worker is running"
        asyncio.run(kafka_topics.require_group(connection(settings), settings.app_id))
    except BrokerUnavailable as exc:
        return (
            False,
            "broker",
            (f"{settings.redact(exc.message)}. Start it, or name another: PENSTOCK_BROKER"),
        )
    except PenstockError as exc:
        return False, "broker", settings.redact(exc.message)
    finally:
        client.close()
    url = settings.redact(settings.broker_url)
    wrong = asyncio.run(kafka_topics.examine(connection(settings), reader.topics[:-1], reader.log))
    if wrong:
        return False, "broker", f"{url}: {'; '.join(wrong)}"
    return True, "broker", f"{url} answers; {runs}"


async def _model(context: Context, target: Target, names: list[str]) -> Finding:
    from penstock.models.providers import Providers
    from penstock.worker.runner import ask_once

    providers = Providers(context.settings.redact)
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
            f"{usage.model} {what} in {usage.seconds:.2f} s, {usage.output_tokens} tokens"
            f" (cards: {', '.join(names)})"
        ),
    )


def folder_is_well(what: str, folder: pathlib.Path) -> Finding:
    """Whether `folder` can be written, and has room."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
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
