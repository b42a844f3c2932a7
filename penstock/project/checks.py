"""What must fit together in a chain: its topics, its stages' turns, its loops, its governor."""

from penstock.errors import ChainError, did_you_mean
from penstock.project.chains import Chain, GovernorSpec, StageSpec
from penstock.project.documents import Document


def check_chain(chain: Chain, document: Document) -> None:
    """Raises `ChainError` with file, line and key for what does not fit together in `chain`."""
    written = {topic for stage in chain.stages for topic in stage.targets}
    parts = [*chain.topics, *(stage.makes for stage in chain.stages if stage.makes)]
    for entry in chain.entries:
        if entry not in chain.topics:
            raise _undeclared(document, chain, entry, "entry")
    begins = " and ".join(f"'{entry}'" for entry in chain.entries)
    for index, stage in enumerate(chain.stages):
        named: list[tuple[str | None, tuple[str, ...]]] = [(stage.reads, ("reads",))]
        named.append((stage.writes, ("writes",)))
        for name, way in (stage.branches.outcomes if stage.branches else {}).items():
            named.append((way.writes, ("outcomes", name, "writes")))
            named.append((way.then, ("outcomes", name, "then")))
        for topic, key in named:
            if topic is not None and topic not in chain.topics:
                raise _undeclared(document, chain, topic, "stages", index, *key)
        if stage.reads not in written and stage.reads not in chain.entries:
            hint = did_you_mean(stage.reads, written)
            raise document.fail(
                f"stage '{stage.name}' reads '{stage.reads}', which no stage writes and which is"
                f" not the entry ({begins}).{hint}",
                "stages",
                index,
                "reads",
            )
        for part in stage.carries or ():
            if part not in parts:
                raise _undeclared(document, chain, part, "stages", index, "carries")
    for entry in chain.entries:
        if all(stage.reads != entry for stage in chain.stages):
            raise document.fail(f"no stage reads the entry, '{entry}'", "stages")
    names = [stage.name for stage in chain.stages]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise document.fail(
                f"two stages are named '{name}': give one of them another 'name'", "stages", index
            )
    _check_order(chain, document)
    if chain.telemetry is not None and chain.telemetry not in chain.topics:
        raise _undeclared(document, chain, chain.telemetry, "telemetry")
    circle = _find_circle(chain)
    if circle:
        index = next(
            i
            for i, stage in enumerate(chain.stages)
            if stage.reads == circle[-2] and circle[-1] in _onward(stage)
        )
        raise document.fail(
            f"a cycle without an exit: {' -> '.join(circle)}. Every run would go round for ever."
            " A way back needs an end: {writes: TOPIC, at_most: 3, then: ANOTHER}.",
            "stages",
            index,
            "outcomes" if chain.stages[index].branches else "writes",
        )
    if chain.governor is not None:
        _check_governor(chain, chain.governor, document)
    if chain.seed is not None:
        try:
            chain.read_parts(chain.seed)
        except ChainError as exc:
            raise document.fail(f"seed: {exc.message}", "seed") from exc
    elif chain.start == "manual":
        raise document.fail("'start: manual' is about the seed, and there is none", "start")
    elif chain.every_s:
        raise document.fail("'every_s' starts runs from 'seed', and there is none", "every_s")
    used = {*written, *(stage.reads for stage in chain.stages), chain.telemetry}
    for topic in chain.topics:
        if topic not in used:
            raise document.fail(f"no stage reads or writes '{topic}'", "topics", topic)


def _check_governor(chain: Chain, governor: GovernorSpec, document: Document) -> None:
    if governor.topic not in chain.topics:
        raise _undeclared(document, chain, governor.topic, "governor", "topic")
    if all(stage.reads != governor.topic for stage in chain.stages):
        raise document.fail(
            f"no stage reads '{governor.topic}', so nothing of it is ever finished",
            "governor",
            "topic",
        )


def _check_order(chain: Chain, document: Document) -> None:
    ahead = {stage.name: stage.after for stage in chain.stages}
    for index, stage in enumerate(chain.stages):
        if stage.after is None:
            continue
        if stage.after not in ahead:
            hint = did_you_mean(stage.after, ahead)
            raise document.fail(
                f"'{stage.after}' is not one of the stages ({', '.join(ahead)}).{hint}",
                "stages",
                index,
                "after",
            )
        line = [stage.name]
        while (next_ := ahead[line[-1]]) is not None and next_ in ahead:
            line.append(next_)
            if next_ in line[:-1]:
                raise document.fail(
                    f"stages that wait for each other: {' after '.join(line)}. None would begin.",
                    "stages",
                    index,
                    "after",
                )


def _undeclared(document: Document, chain: Chain, topic: str, *path: str | int) -> Exception:
    known = ", ".join(chain.topics)
    hint = did_you_mean(topic, chain.topics)
    return document.fail(f"'{topic}' is not one of the topics ({known}).{hint}", *path)


def _onward(stage: StageSpec) -> list[str]:
    """The topics that it may write to any number of times in a run."""
    return stage.targets if stage.branches is None else stage.branches.unbounded


def _find_circle(chain: Chain) -> list[str]:
    """The topics of a cycle, first and last the same, or nothing."""
    onward: dict[str, list[str]] = {}
    for stage in chain.stages:
        onward.setdefault(stage.reads, []).extend(_onward(stage))
    done: set[str] = set()

    def visit(topic: str, path: list[str]) -> list[str]:
        if topic in path:
            return [*path[path.index(topic) :], topic]
        if topic in done:
            return []
        for after in onward.get(topic, ()):
            if found := visit(after, [*path, topic]):
                return found
        done.add(topic)
        return []

    return next((found for topic in onward if (found := visit(topic, []))), [])
