"""`worker --reload`: a worker that runs reads its cards anew, and says what came of it."""

import os
import signal
import socket
import time

from penstock.commands.printing import complain, put
from penstock.errors import NotFound
from penstock.settings import Settings
from penstock.worker.health import Health, read_all

#: Seconds that a worker has for it, and between looks.
ANSWER_S, LOOK_S = 10.0, 0.1


def reload_cards(settings: Settings) -> int:
    """Have each worker on this machine take its cards; the command's exit code. Raises `NotFound`
    when there is none."""
    waiting = {one.worker: one for one in _there(settings)}
    if not waiting:
        raise NotFound(
            f"no worker that can take cards runs on this machine, as far as"
            f" {settings.data.absolute()} says. One that starts has them as they are now:"
            " penstock worker"
        )
    for one in waiting.values():
        os.kill(one.pid, signal.SIGHUP)
    code, deadline = 0, time.monotonic() + ANSWER_S
    while waiting and time.monotonic() < deadline:
        for now in _there(settings):
            before = waiting.get(now.worker)
            if before is not None and now.reload is not None and now.reload != before.reload:
                del waiting[now.worker]
                code = max(code, 0 if now.reload.taken else 1)
                (put if now.reload.taken else complain)(f"worker {now.worker}: {now.reload.said}")
        time.sleep(LOOK_S)
    for one in waiting.values():
        code = 1
        complain(f"worker {one.worker} (pid {one.pid}) has not answered in {ANSWER_S:g} s")
    return code


def _there(settings: Settings) -> list[Health]:
    found = read_all(settings.data, settings.app_id)
    host = socket.gethostname()
    return [one for one in found if one.takes_cards and one.host == host and not one.is_silent]
