"""Parts of Faust in a form of our own: without a web server, codecs, or waits for nothing."""

from typing import Any

import faust
from faust.app.base import BootStrategy
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery


class Boot(BootStrategy):
    """Faust's services without its web server, which would listen on every address."""

    enable_web = False


class RawSchema(faust.Schema[bytes, bytes]):
    """Keys and values as they stand on the topic. The stage reads the event itself, so that what
    cannot be read is a dead letter; Faust's codecs would look up their settings for nothing."""

    def __init__(self) -> None:
        super().__init__(
            key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
        )

    def compile(self, app: Any, **options: Any) -> Any:
        make = app.conf.Event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return make(app, message.key, message.value, message.headers, message)

        return decode


class CarefulRecovery(Recovery):
    """Faust's recovery of tables, which does not deliver while it seeks.

    Faust lets the partitions go while the flow runs, seeks to the committed offsets after that, and
    empties the streams' buffers last: what was delivered in between comes twice, or not until a
    restart. It resumes the flow itself when it has done all that.
    """

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        self.app.consumer.stop_flow()
        await super().on_recovery_completed(generation_id)

    async def _resume_streams(self, generation_id: int = 0) -> None:
        self.app.consumer.stop_flow()
        await super()._resume_streams(generation_id)

    async def _wait(self, coro: Any, timeout: Any = None) -> None:
        # Faust takes a seek that lasts longer than a request may (90 s) for the end of the worker,
        # which then stands there for ever, a member of the group, and delivers nothing.
        await super()._wait(coro)


class Tables(TableManager):
    """Faust's tables, without the second that they wait for streams when there are none."""

    @property
    def recovery(self) -> Recovery:
        if self._recovery is None:
            self._recovery = CarefulRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_start(self) -> None:
        if self:
            await super().on_start()
        else:
            await self._update_channels()
            await self.recovery.start()
