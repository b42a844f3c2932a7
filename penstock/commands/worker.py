"""`worker`: Faust's own command, with the checks before it starts."""

import logging
from typing import Any, NoReturn

import faust.cli.worker
from mode.utils.logging import level_number

from penstock.commands.command import exits_cleanly
from penstock.commands.screens import say
from penstock.errors import PenstockError
from penstock.models.names import resolve
from penstock.worker.application import PenstockApp


class worker(faust.cli.worker.worker):
    """Start a worker that runs the pipelines."""

    app: PenstockApp

    def __call__(self, *args: Any, **options: Any) -> NoReturn:
        with exits_cleanly(self.app.settings.database):
            self.app.prepare()
            for line in greeting(self.app):
                say(line)
        super().__call__(*args, **options)

    def on_worker_created(self, worker: Any) -> None:
        super().on_worker_created(worker)
        # It hides the cursor, and does not give it back when the worker is stopped.
        worker.spinner = None
        worker.carp = lambda _: None
        for name in (type(worker).logger.name, type(self.app).logger.name):
            logging.getLogger(name).addFilter(in_a_sentence)
        # The console's level is the handler's: without one of their own, the loggers would make a
        # record of every step and every send, only to drop it.
        level = level_number(worker.loglevel or "WARN")
        logging.getLogger("penstock").setLevel(level)
        for name in ("faust", "mode"):
            logging.getLogger(name).setLevel(max(level, logging.INFO))
        # A line for each call, with the address as it was given: ours tell of each step.
        for name in ("httpx", "httpx2"):
            logging.getLogger(name).setLevel(max(level, logging.WARNING))

    def _init_worker_options(self, *args: Any, **options: Any) -> None:
        super()._init_worker_options(*args, **options)
        # The page is not here yet, and Faust's own server would listen on every address.
        self.app.conf.web_enabled = False

    def _banner_data(self, worker: Any) -> Any:
        hidden = ("transport", "store", "  web", "drivers", "appdir", "datadir")
        return [row for row in super()._banner_data(worker) if row[0] not in hidden]


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
            models[target.label] = target
    lines = []
    for label, target in sorted(models.items()):
        if target.provider == "offline":
            lines.append(
                f"model      {label}: no model is configured, so sample text is made in process."
                " Set PENSTOCK_MODEL or OPENAI_API_KEY for a real one."
            )
        elif not target.name:
            lines.append(f"model      {target.provider}, the SDK's default model ({_default()})")
        else:
            at = f" at {settings.redact(target.base_url)}" if target.base_url else ""
            lines.append(f"model      {label}{at}")
    lines.append(
        f"pipelines  {', '.join(sorted(app.project.chains))}  ({app.project.root.absolute()})"
    )
    lines.append(f"broker     {settings.redact(settings.broker_url)}")
    log = app.event_log.path if settings.event_log else "off (PENSTOCK_EVENT_LOG)"
    lines.append(f"event log  {log}")
    return lines


def _default() -> str:
    from agents.models import get_default_model

    return get_default_model()
