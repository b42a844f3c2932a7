"""What must fit together in a chain: its topics, its stages' turns, its loops, its governor."""

import graphlib
import itertools
from collections.abc import Iterator

from penstock.errors import ChainError, closest, did_you_mean
from penstock.project.chains import Chain, StageSpec
from penstock.project.documents import Document, KeyPath


def check_chain(chain: Chain, document: Document) -> None:
    """Everything that does not fit together in `chain` is noted in its `document`."""
    for index, stage in enumerate(chain.stages):
        _check_stage(stage, document, "stages", index)
    # Of a name that is no topic, and of the topic that it was probably meant for, that is enough.
    said = {
        one
        for topic, path in _named(chain)
        if topic not in chain.topics
        for one in (topic, _note_undeclared(chain, topic, document, *path) or topic)
    }
    written = {topic for stage in chain.stages for topic in stage.targets} | said
    read = {stage.reads for stage in chain.stages} | said
    for entry in chain.accept if isinstance(chain.accept, dict) else ():
        if entry not in chain.entries and entry not in said:
            known, hint = ", ".join(chain.entries), did_you_mean(entry, chain.entries)
            document.note(f"'{entry}' is not an entry ({known}).{hint}", "accept", entry)
    begins = " and ".join(f"'{entry}'" for entry in chain.entries)
    for index, stage in enumerate(chain.stages):
        if stage.reads not in written and stage.reads not in chain.entries:
            hint = did_you_mean(stage.reads, written)
            document.note(
                f"stage '{stage.name}' reads '{stage.reads}', which no stage writes and which is"
                f" not the entry ({begins}).{hint}",
                *("stages", index, "reads"),
            )
    for entry in chain.entries:
        if entry not in read:
            document.note(f"no stage reads the entry, '{entry}'", "stages")
    for topic in chain.topics:
        if topic not in written | read and topic != chain.telemetry:
            document.note(f"no stage reads or writes '{topic}'", "topics", topic)
        # Of Kafka, and a chain is to run on both brokers.
        if topic in (".", ".."):
            document.note(f"'{topic}' is no name that a topic can have", "topics", topic)
        others = [one for one in chain.topics if one.replace(".", "_") == topic.replace(".", "_")]
        if topic != others[0]:
            document.warn(
                f"'{topic}' and '{others[0]}' are one name to Kafka, which takes '.' for '_'",
                *("topics", topic),
            )
    names = [stage.name for stage in chain.stages]
    for index, name in enumerate(names):
        if name in names[:index]:
            document.note(
                f"two stages are named '{name}': give one of them another 'name'", "stages", index
            )
    _check_order(chain, document)
    if chain.result is not None:
        parts = [stage.makes for stage in chain.stages if stage.makes]
        topics = [topic for stage in chain.stages for topic in stage.targets]
        made = dict.fromkeys([*parts, *topics])
        made.pop(chain.telemetry or "", None)
        if chain.result not in made:
            document.note(
                f"'{chain.result}' is nothing that a stage makes ({', '.join(made) or 'none'})."
                f"{did_you_mean(chain.result, made)}",
                "result",
            )
    for circle in _circles(chain):
        index = next(
            i
            for i, stage in enumerate(chain.stages)
            if stage.reads == circle[-2] and circle[-1] in _onward(stage)
        )
        document.note(
            f"a cycle without an exit: {' -> '.join(circle)}. Every run would go round for ever."
            " A way back needs an end: {writes: TOPIC, at_most: 3, then: ANOTHER}.",
            *("stages", index, "outcomes" if chain.stages[index].branches else "writes"),
        )
    _check_meetings(chain, document)
    governor = chain.governor
    if governor is not None and governor.topic not in read:
        document.note(
            f"no stage reads '{governor.topic}', so nothing of it is ever finished",
            *("governor", "topic"),
        )
    if chain.seed is not None:
        try:
            if chain.topics.keys() >= set(chain.entries):
                chain.read_parts(chain.seed)
        except ChainError as exc:
            document.note(f"seed: {exc.message}", "seed")
    elif chain.start == "manual":
        document.note("'start: manual' is about the seed, and there is none", "start")
    elif chain.every_s:
        document.note("'every_s' starts runs from 'seed', and there is none", "every_s")


def _check_stage(stage: StageSpec, document: Document, *path: str | int) -> None:
    """The keys of a stage go together."""
    if (stage.agent is None) == (stage.step is None):
        document.note("a stage has either 'agent: CARD' or 'step: NAME', one of the two", *path)
    for key in ("task", "again"):
        if getattr(stage, key) and stage.step:
            document.note(f"'{key}' goes with 'agent', not with 'step'", *path, key)
    if stage.check and stage.step:
        document.note("'check' goes with 'agent'; a step can check for itself", *path, "check")
    if (stage.by is None) != (stage.outcomes is None):
        document.note("'by: FIELD' and 'outcomes' go together", *path)
    elif stage.outcomes is not None and (stage.writes is not None or stage.part is None):
        document.note(
            "with 'outcomes' a stage needs 'part: NAME', what its answer is called whichever way it"
            " goes, and has no 'writes' of its own",
            *path,
        )
    for name, way in (stage.outcomes or {}).items():
        if way.then is not None and way.at_most is None:
            document.note(
                "'then' says where it goes after 'at_most' rounds: give both",
                *(*path, "outcomes", name, "at_most"),
            )
        for key in ("while_new", "unless"):
            if getattr(way, key) is not None and way.at_most is None:
                document.note(
                    f"'{key}' ends a way back, and a way back has 'at_most': give both",
                    *(*path, "outcomes", name, key),
                )


def _named(chain: Chain) -> Iterator[tuple[str, KeyPath]]:
    """Each topic that the chain names outside of `topics`, and each part that it carries, with the
    key that does."""
    known = {*chain.topics, *(stage.makes for stage in chain.stages)}
    for entry in chain.entries:
        yield entry, ("entry",)
    if chain.telemetry is not None:
        yield chain.telemetry, ("telemetry",)
    if chain.governor is not None:
        yield chain.governor.topic, ("governor", "topic")
    for index, stage in enumerate(chain.stages):
        path: KeyPath = ("stages", index)
        yield stage.reads, (*path, "reads")
        if stage.writes is not None:
            yield stage.writes, (*path, "writes")
        for name, way in (stage.outcomes or {}).items():
            for key, topic in (("writes", way.writes), ("then", way.then)):
                if topic is not None:
                    yield topic, (*path, "outcomes", name, key)
            for key in ("while_new", "unless"):
                part = getattr(way, key) or ""
                around = itertools.accumulate(part.split("."), "{}.{}".format)
                if part and known.isdisjoint(around):
                    yield part, (*path, "outcomes", name, key)
        for at, part in enumerate(stage.carries or ()):
            if part not in known:
                yield part, (*path, "carries", at)


def _note_undeclared(chain: Chain, topic: str, document: Document, *path: str | int) -> str | None:
    """Note that `topic` is none. Returns the one that was probably meant."""
    known = ", ".join(chain.topics)
    hint = did_you_mean(topic, chain.topics)
    document.note(f"'{topic}' is not one of the topics ({known}).{hint}", *path)
    return closest(topic, chain.topics)


def _check_order(chain: Chain, document: Document) -> None:
    ahead = {stage.name: stage.after for stage in chain.stages}
    for index, stage in enumerate(chain.stages):
        if stage.after is None:
            continue
        if stage.after not in ahead:
            hint = did_you_mean(stage.after, ahead)
            document.note(
                f"'{stage.after}' is not one of the stages ({', '.join(ahead)}).{hint}",
                *("stages", index, "after"),
            )
        line = [stage.name]
        while (next_ := ahead.get(line[-1])) is not None:
            line.append(next_)
            if next_ in line[:-1]:
                document.note(
                    f"stages that wait for each other: {' after '.join(line)}. None would begin.",
                    *("stages", index, "after"),
                )
                return


def _onward(stage: StageSpec) -> list[str]:
    """The topics that it may write to any number of times in a run: what it reports of itself is on
    one, too."""
    targets = stage.targets if stage.branches is None else stage.branches.unbounded
    return targets if stage.telemetry is None else [*targets, stage.telemetry]


def _circles(chain: Chain) -> Iterator[list[str]]:
    """The topics of each cycle, first and last the same, from the one that the chain names first.
    Each is another way back."""
    before: dict[str, list[str]] = {}
    for stage in chain.stages:
        for topic in _onward(stage):
            before.setdefault(topic, []).append(stage.reads)
    order = list(dict.fromkeys([*chain.topics, *before, *(stage.reads for stage in chain.stages)]))
    while True:
        try:
            graphlib.TopologicalSorter(before).prepare()
            return
        except graphlib.CycleError as exc:
            *circle, _ = exc.args[1]
        first = min(range(len(circle)), key=lambda at: order.index(circle[at]))
        circle = [*circle[first:], *circle[: first + 1]]
        before[circle[-1]] = [topic for topic in before[circle[-1]] if topic != circle[-2]]
        yield circle


def _check_meetings(chain: Chain, document: Document) -> None:
    """Warn of two stages that write one topic in one run, as they follow from an event that several
    stages read: no later one waits for both, each of the two is gone on with. A chain that wants
    each of its ideas judged means that, so it is no mistake."""
    readers: dict[str, list[int]] = {}
    writers: dict[str, list[int]] = {}
    for index, stage in enumerate(chain.stages):
        readers.setdefault(stage.reads, []).append(index)
        for topic in stage.targets:
            writers.setdefault(topic, []).append(index)
    warned: set[tuple[int, int, str]] = set()
    for fork, first in readers.items():
        ways = [_downstream(chain, index, fork, readers) for index in first]
        for topic in readers if len(ways) > 1 else ():
            for one, other in itertools.combinations(writers.get(topic, ()), 2):
                apart = {(one in way) - (other in way) for way in ways}
                if {1, -1} <= apart and (one, other, topic) not in warned:
                    warned.add((one, other, topic))
                    names = " and ".join(f"'{chain.stages[at].name}'" for at in (one, other))
                    document.warn(
                        f"{names} both write '{topic}' in a run, as both follow from '{fork}': what"
                        f" comes after '{topic}' is done once for each of them. If that is not"
                        " meant, let one read what the other writes",
                        *("stages", other),
                    )


def _downstream(chain: Chain, first: int, fork: str, readers: dict[str, list[int]]) -> set[int]:
    """The stages that an event of `fork` may come to by the stage `first`, that one included, until
    it is on `fork` again."""
    found: set[int] = set()
    line = [first]
    while line:
        index = line.pop()
        if index not in found:
            found.add(index)
            for topic in chain.stages[index].targets:
                line += readers.get(topic, ()) if topic != fork else ()
    return found
