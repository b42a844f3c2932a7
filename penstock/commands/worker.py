"""`worker`: Faust's own command, with the checks before it starts, and less to read."""

import asyncio
import functools
import logging
import os
import signal as signals
from importlib.metadata import version
from typing import Any, NoReturn

import faust.cli.worker
import faust.worker
import mode
from faust.cli.base import option
from mode.utils.logging import level_number

from penstock.commands.command import exits_cleanly
from penstock.commands.printing import say
from penstock.commands.reload import reload_cards
from penstock.errors import PenstockError
from penstock.models.names import resolve
from penstock.worker.application import PenstockApp
from penstock.worker.console import on_one_line

log = logging.getLogger(__name__)

#: Not by its name: Faust puts its log there.
STDERR = 2


class Worker(faust.worker.Worker):
    """Faust's, which says when it is ready, why it stops and that it has, and nothing between."""

    app: PenstockApp

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # It hides the cursor, and does not give it back when the worker is stopped.
        self.spinner = None

    def carp(self, msg: str) -> None:
        """Ctrl-C is said below."""

    def on_setup_root_logger(self, logger: logging.Logger, level: int) -> None:
        super().on_setup_root_logger(logger, level)
        for handler in logger.handlers:
            redact = self.app.settings.redact
            handler.addFilter(functools.partial(on_one_line, redact=redact))
        if level > logging.DEBUG:
            for handler in logger.handlers:
                handler.addFilter(no_service)

    def _install_signal_handlers_unix(self) -> None:
        super()._install_signal_handlers_unix()
        self._has_terminal = os.isatty(STDERR)
        self.loop.add_signal_handler(signals.SIGHUP, self._on_sighup)

    def _on_sighup(self) -> None:
        """Take the cards anew; end where the signal says that the terminal is gone."""
        if self._has_terminal and not os.isatty(STDERR):
            self._schedule_shutdown(signals.SIGHUP)
        else:
            self._reloading = asyncio.ensure_future(self.app.reload_cards(), loop=self.loop)

    async def on_startup_finished(self) -> None:
        await super().on_startup_finished()
        if not self._shutdown_immediately:
            log.info("Worker ready")

    async def _stop_on_signal(self, signal: signals.Signals) -> None:
        log.info("%s: the worker stops", signal.name)
        await super()._stop_on_signal(signal)

    def _shutdown_loop(self) -> None:
        super()._shutdown_loop()
        log.info("Worker stopped")


class worker(faust.cli.worker.worker):
    """Start a worker that runs the pipelines."""

    app: PenstockApp
    options = [
        *faust.cli.worker.worker.options,
        option(
            "--reload",
            is_flag=True,
            help="Start none: have the one that runs take its cards anew, and print what it says.",
        ),
    ]

    def __call__(self, *args: Any, **options: Any) -> NoReturn:
        with exits_cleanly(self.app.settings.database):
            if self.kwargs.pop("reload"):
                raise SystemExit(reload_cards(self.app.settings))
            self.app.takes_cards = True
            self.app.prepare()
            for line in greeting(self.app):
                say(line)
        super().__call__(*args, **options)

    @property
    def _Worker(self) -> type[mode.Worker]:
        return Worker

    def on_worker_created(self, worker: mode.Worker) -> None:
        # Not Faust's own, which prints a banner.
        for name in (Worker.logger.name, type(self.app).logger.name):
            logging.getLogger(name).addFilter(in_a_sentence)
        # The console's level is the handler's: without one of their own, the loggers would make a
        # record of every step and every send, only to drop it.
        level = level_number(worker.loglevel or "WARN")
        logging.getLogger("penstock").setLevel(level)
        # What goes on inside is for who looks for a fault in there.
        inner = logging.INFO if level <= logging.DEBUG else max(level, logging.WARNING)
        for name in ("faust", "mode", "aiokafka"):
            logging.getLogger(name).setLevel(inner)
        # A line for each call, with the address as it was given: ours tell of each step.
        for name in ("httpx", "httpx2"):
            logging.getLogger(name).setLevel(max(level, logging.WARNING))

    def _init_worker_options(self, *args: Any, **options: Any) -> None:
        super()._init_worker_options(*args, **options)
        # The page is not here yet, and Faust's own server would listen on every address.
        self.app.conf.web_enabled = False


def no_service(record: logging.LogRecord) -> bool:
    """Not that a service of Mode's starts or stops, which are ninety lines in a worker's life. Ours
    log under our own names, so their level cannot tell those lines from ours; their mark can."""
    return record.levelno > logging.INFO or not str(record.msg).startswith("[^")


def in_a_sentence(record: logging.LogRecord) -> bool:
    """What ends a worker is said as any command says it: a `PenstockError` without its traceback,
    which Mode logs with it."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, PenstockError):
        record.msg, record.args, record.exc_info = f"Error: {error.message}", (), None
    return True


def greeting(app: PenstockApp) -> list[str]:
    """What a person wants to know before the first event: models, pipelines, places."""
    settings = app.settings
    models = {}
    for spec in app.project.stages:
        if spec.agent is not None:
            target = resolve(app.project.cards[spec.agent].front.model, settings)
            models[target.server] = target
    release = version("penstock-agents")
    lines = [f"worker     {settings.app_id}, process {os.getpid()}  (Penstock {release})"]
    for _, target in sorted(models.items()):
        label = target.label
        if target.provider == "offline":
            lines.append(
                f"model      {label}: no model is configured, so sample text is made in process."
                " Set PENSTOCK_MODEL or OPENAI_API_KEY for a real one."
            )
        elif not target.name:
            lines.append(f"model      {target.provider}, the SDK's default model ({_default()})")
        else:
            at = settings.redact(str(target.base_url or target.file or ""))
            lines.append(f"model      {label}{f' at {at}' if at else ''}")
    chains = sorted(app.project.chains.values(), key=lambda chain: chain.name)
    pipelines = ", ".join(f"{chain.name} ({len(chain.stages)} stages)" for chain in chains)
    lines.append(f"pipelines  {pipelines}  in {app.project.root.absolute()}")
    lines.append(f"broker     {settings.redact(settings.broker_url)}")
    log = app.event_log.path if settings.event_log else "off (PENSTOCK_EVENT_LOG)"
    lines.append(f"event log  {log}")
    lines += (f"warning    {warning}" for warning in app.project.warnings)
    return lines


def _default() -> str:
    from agents.models import get_default_model

    return get_default_model()
