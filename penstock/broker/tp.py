"""A topic's partition, under Faust's name and without Faust."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from faust.types import TP
else:
    # Faust's own is a tuple of the same two fields, so either stands for the other, also as a key.
    # But it comes with all of Faust and with aiohttp: more than most commands take in all.
    class TP(NamedTuple):
        """A topic's partition."""

        topic: str
        partition: int


__all__ = ["TP"]
