"""Kafka away: the worker waits for it when it starts, and an outage is said once."""

import logging
import time
from collections.abc import Callable

import faust
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from faust.transport.drivers.aiokafka import Transport, server_list

log = logging.getLogger(__name__)

#: Seconds between looks for a Kafka that does not answer: doubled each time, up to the last.
FIRST_PAUSE_S, LAST_PAUSE_S = 0.5, 8.0
#: Seconds without a complaint after which an outage is over: aiokafka complains each second.
OVER_AFTER_S = 10.0
#: How aiokafka's complaints of an outage begin, of which it makes about 100 a second.
COMPLAINTS = (
    "Error sending",
    "Failed fetch messages",
    "Got error produce response",
    "Group Coordinator Request failed",
    "Heartbeat ",
    "Marking the coordinator dead",
    "OffsetCommit failed",
    "Unable connect",
    "Unable to ",
)


class SaidOnce(logging.Filter):
    """Lets one complaint of an outage through, and leaves what else is said alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.clock = clock
        self.last = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        if not str(record.msg).startswith(COMPLAINTS):
            return True
        quiet_s, self.last = self.clock() - self.last, self.clock()
        if quiet_s < OVER_AFTER_S:
            return False
        text = "Kafka does not answer (%s). Nothing is lost: asking again until it does"
        record.msg, record.args, record.exc_info = text, (record.getMessage(),), None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


async def until_it_answers(app: faust.App) -> None:
    """The app's Kafka has answered, or the app is told to stop. From here on aiokafka says each
    outage once."""
    once = SaidOnce()
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] == "aiokafka":
            logging.getLogger(name).addFilter(once)
    servers = server_list(app.conf.broker, Transport.default_port)
    pause_s = FIRST_PAUSE_S
    while not app.should_stop:
        once.last = time.monotonic()  # what aiokafka says of it is said here
        client = AIOKafkaClient(bootstrap_servers=servers)
        try:
            await client.bootstrap()
        except KafkaError:
            if pause_s == FIRST_PAUSE_S:
                log.warning(
                    "Kafka at %s does not answer. Asking again until it does",
                    ", ".join(servers),
                    extra={"action": "broker_down"},
                )
        else:
            if pause_s > FIRST_PAUSE_S:
                log.warning("Kafka at %s answers", ", ".join(servers))
            once.last = float("-inf")
            return
        finally:
            await client.close()
        await app.sleep(pause_s)
        pause_s = min(LAST_PAUSE_S, pause_s * 2)
