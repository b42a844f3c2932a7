"""Readers: what an edited chain means for the stages that a broker knows of each topic."""

from collections.abc import Iterator, Mapping, Sequence

from penstock.signals import StageJoined


def joined(
    known: Mapping[str, Sequence[str]], wanted: Mapping[str, Sequence[str]]
) -> list[StageJoined]:
    """Return the stages of `wanted`, by topic, that are not `known`, and where they begin.

    An edited chain must not pay again for what it had finished. So a new stage takes over from
    those that are gone, with their recorded calls: it is one of them under another name. Where none
    is gone it begins where the first of the others is.
    """
    made = []
    for topic, names in wanted.items():
        there = known.get(topic, [])
        vanished = tuple(name for name in there if name not in names)
        source = next(iter(vanished or there), None)
        made += [StageJoined(name, topic, source, vanished) for name in names if name not in there]
    return made


def left(
    known: Mapping[str, Sequence[str]], wanted: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, str]]:
    """Yield topic and name of each stage that is gone from a topic which others go on with."""
    for topic, names in wanted.items():
        there = known.get(topic, ())
        if set(names) <= set(there):  # else a new one takes its place
            yield from ((topic, name) for name in there if name not in names)
