"""Kafka away: the worker waits for it when it starts, and says so once."""

import logging
import time
from collections.abc import Callable

import faust
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from faust.transport.drivers.aiokafka import Transport, server_list

log = logging.getLogger(__name__)

#: Seconds between looks for a Kafka that does not answer: doubled each time, up to the last.
FIRST_PAUSE_S, LAST_PAUSE_S = 0.5, 15.0
#: Seconds without a word from aiokafka after which an outage is over: it complains each second.
OVER_AFTER_S = 10.0


class SaidOnce(logging.Filter):
    """Lets through the first complaint of an outage, of about 100 lines a second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.clock = clock
        self.last = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        quiet_s, self.last = self.clock() - self.last, self.clock()
        if quiet_s < OVER_AFTER_S:
            return False
        record.msg = f"Kafka does not answer as it should: {record.getMessage()}. It is asked again"
        record.msg += " until it does, and what it says till then is not repeated here"
        record.args = ()
        record.exc_info = None
        return True


def say_once() -> None:
    """From here on aiokafka says each outage once."""
    once = SaidOnce()
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] == "aiokafka":
            logging.getLogger(name).addFilter(once)


async def until_it_answers(app: faust.App) -> None:
    """The app's Kafka has answered, or the app is told to stop."""
    servers = server_list(app.conf.broker, Transport.default_port)
    pause_s = FIRST_PAUSE_S
    while not app.should_stop:
        client = AIOKafkaClient(bootstrap_servers=servers)
        try:
            await client.bootstrap()
        except KafkaError as exc:
            if pause_s == FIRST_PAUSE_S:
                log.warning(
                    "Kafka at %s does not answer (%s). Asking again until it does",
                    ", ".join(servers),
                    exc,
                    extra={"action": "broker_down"},
                )
        else:
            if pause_s > FIRST_PAUSE_S:
                log.warning("Kafka at %s answers", ", ".join(servers))
            return
        finally:
            await client.close()
        await app.sleep(pause_s)
        pause_s = min(LAST_PAUSE_S, pause_s * 2)
