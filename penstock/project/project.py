"""A project: cards, chains, Python steps and prices of one folder, read once, checked together."""

import contextlib
import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from penstock.broker.contract import Pipeline, Plan
from penstock.errors import ChainError, ProjectError, SettingsError, closest, did_you_mean
from penstock.models.names import resolve
from penstock.models.prices import Price
from penstock.project.branches import OTHERWISE, Branches
from penstock.project.cards import Card, read_card
from penstock.project.chain_files import read_chain
from penstock.project.chains import Chain, StageSpec
from penstock.project.documents import Document
from penstock.project.files import digest_files, is_card
from penstock.project.modules import imported_files, load_steps
from penstock.project.price_file import NAME as PRICES
from penstock.project.price_file import read_prices
from penstock.project.taken_names import hidden_sdk
from penstock.settings import Settings
from penstock.steps import Registry, built_in

#: With these, what is wrong with a model's name is the name: which keys there are is the worker's.
ANY_KEYS = Settings(openai_api_key="any", mistral_api_key="any")


@dataclasses.dataclass(kw_only=True)
class Project:
    """What a folder holds, and `problems`: everything that is wrong with it, a sentence each.

    A project with problems is still here, so that `check` and `doctor` can say all of them at
    once; whatever runs a pipeline calls `require_sound()` first.
    """

    root: pathlib.Path
    cards: dict[str, Card]
    chains: dict[str, Chain]
    registry: Registry
    problems: list[str]
    #: What prices.yaml says that models cost, by label.
    prices: dict[str, Price] = dataclasses.field(default_factory=dict)
    #: What works, and hardly anybody means.
    warnings: list[str] = dataclasses.field(default_factory=list)
    #: The files of steps/ that could not be run, and what was said of each.
    broken: dict[pathlib.Path, str] = dataclasses.field(default_factory=dict)
    #: The digest of each file as it was read, by its path in `root`, and modules beside steps/.
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    modules: list[pathlib.Path] = dataclasses.field(default_factory=list)

    @property
    def stages(self) -> list[StageSpec]:
        return [stage for chain in self.chains.values() for stage in chain.stages]

    @property
    def one_worker_topics(self) -> frozenset[str]:
        """The topics whose events all stand in one partition, for one worker of the cluster."""
        return frozenset(stage.reads for stage in self.stages if stage.one_worker)

    def plan(self, app_id: str) -> Plan:
        """What the project asks of its broker."""
        readers: dict[str, tuple[str, ...]] = {}
        for stage in self.stages:
            readers[stage.reads] = (*readers.get(stage.reads, ()), stage.name)
        pipelines = tuple(
            Pipeline(chain.name, str(chain.file), tuple(chain.topics))
            for chain in self.chains.values()
        )
        return Plan(app_id, pipelines, readers, self.one_worker_topics)

    def chain(self, name: str) -> Chain:
        """The chain `name`. Raises `ChainError` that lists the ones there are."""
        if name not in self.chains:
            hint = did_you_mean(name, self.chains)
            known = ", ".join(sorted(self.chains)) or "none"
            raise ChainError(f"there is no pipeline '{name}'.{hint} Pipelines here: {known}.")
        return self.chains[name]

    def take(self, document: Document) -> None:
        """What is wrong with `document` is wrong with the project."""
        self.problems += document.problems
        self.warnings += document.warnings

    def digest_files(self) -> dict[str, str]:
        """The digest of each of the project's files as it is now."""
        return digest_files(self.root, self.modules)

    def take_files(self, files: Mapping[str, str]) -> None:
        """The cards among `files` are those that are used from here on."""
        kept = {name: digest for name, digest in self.files.items() if not is_card(name)}
        self.files = kept | {name: digest for name, digest in files.items() if is_card(name)}

    def require_sound(self) -> None:
        """Raises `ProjectError` with all the problems, when there are any."""
        if self.problems:
            raise ProjectError("\n".join(self.problems))


def read_project(root: pathlib.Path) -> Project:
    """Everything in `root`: agents/*.md, topics/*.yaml, steps/*.py, prices.yaml. Never raises for a
    mistake in one of them: it is in `problems`, and the rest is read on."""
    project = Project(root=root, cards={}, chains={}, registry=built_in(), problems=[])
    hidden = hidden_sdk(root)
    if hidden is not None:
        project.problems.append(hidden)
    project.broken = load_steps(root, project.registry)
    project.modules = imported_files(root)
    # Before what they hold is read: what is edited meanwhile is found to have changed.
    project.files = digest_files(root, project.modules)
    _read_cards(project)
    project.problems += dict.fromkeys(project.broken.values())
    files = sorted((root / "topics").glob("*.yaml")) + sorted((root / "topics").glob("*.yml"))
    if not files:
        project.problems.append(
            f"{root.absolute()}: there is no chain here (topics/NAME.yaml)."
            " Go to a project's folder, name it with PENSTOCK_PROJECT, or make one:"
            " penstock new NAME"
        )
    if (root / PRICES).exists():
        project.prices, document = read_prices(root / PRICES)
        project.take(document)
    project.warnings += _not_read(root)
    for file in files:
        chain, document = read_chain(file)
        if chain is not None:
            _check_against_others(chain, document, project)
            project.chains.setdefault(chain.name, chain)
        project.take(document)
    return project


def _not_read(root: pathlib.Path) -> Iterator[str]:
    """What stands beside cards and chains and is read as neither."""
    for folder, suffixes in (("agents", (".md", ".py")), ("topics", (".yaml", ".yml"))):
        for file in sorted((root / folder).glob("*")):
            if file.suffix not in suffixes and not file.name.startswith((".", "__")):
                yield f"{file}: is not read: {folder}/ is for NAME{suffixes[0]}"
    if (file := root / "prices.yml").exists():
        yield f"{file}: is not read: prices stand in {PRICES}"


def read_cards(project: Project) -> Project:
    """`project` with its cards as they are now, checked against its chains, steps and tools, which
    stay."""
    anew = dataclasses.replace(
        project, cards={}, problems=[], warnings=[], files=project.digest_files()
    )
    _read_cards(anew)
    for stage in project.stages:
        if stage.agent is not None:
            said: list[str] = []
            chain = project.chains[stage.pipeline]
            _check_card(stage, anew, said.append)
            _check_given(stage, chain, anew, said.append)
            where = f"{chain.file}: stage '{stage.name}'"
            anew.problems += [f"{where}: {one}" for one in said]
    return anew


def _read_cards(project: Project) -> None:
    for file in sorted((project.root / "agents").glob("*.md")):
        project.cards[file.stem] = read_card(file)
    for card in project.cards.values():
        _check_front(card, project)
        project.take(card.document)


def _check_against_others(chain: Chain, document: Document, project: Project) -> None:
    for other in project.chains.values():
        if other.name == chain.name:
            document.note(f"the pipeline '{chain.name}' is also in {other.file}", "pipeline")
            return  # all of its topics and stages may be, too
        for topic in chain.topics:
            if topic in other.topics:
                document.note(
                    f"the topic '{topic}' belongs to '{other.name}' ({other.file}); a topic belongs"
                    " to one pipeline",
                    *("topics", topic),
                )
    taken = {stage.name for stage in project.stages}
    for index, stage in enumerate(chain.stages):
        note = functools.partial(_note_stage, document, index)
        if stage.name in taken:
            note(f"another pipeline has a stage '{stage.name}'")
        if stage.agent is not None:
            _check_card(stage, project, note)
            _check_given(stage, chain, project, note)
        for step in filter(None, (stage.check, stage.step)):
            known = project.registry.steps
            if step not in known and not _is_in_broken(step, project):
                note(
                    f"there is no step '{step}'.{did_you_mean(step, known)}"
                    f" Steps: {', '.join(sorted(known))}. Register one in steps/*.py with @step."
                )


def _note_stage(document: Document, index: int, message: str) -> None:
    document.note(message, "stages", index)


def _check_card(stage: StageSpec, project: Project, note: Callable[[str], None]) -> None:
    assert stage.agent is not None
    card = project.cards.get(stage.agent)
    if card is None:
        file = project.root / "agents" / f"{stage.agent}.md"
        note(f"the card {file} is missing.{did_you_mean(stage.agent, project.cards)}")
        return
    if card.document.spoilt():
        return
    missing = [task for task in (stage.task, stage.again) if task and task not in card.tasks]
    for task in missing:
        note(
            f"{card.file} has no section '## Task: {task}'.{did_you_mean(task, card.tasks)}"
            f" Tasks there: {', '.join(filter(None, card.tasks)) or 'none'}."
        )
    if missing:
        return
    if not card.instructions(stage.task) and not card.front.instructions_from:
        note(f"{card.file} has no instructions for this stage")
    if stage.branches is not None:
        for asked in dict.fromkeys((stage.task, stage.again or stage.task)):
            _check_outcomes(stage.branches, card, asked, note)


def _check_given(
    stage: StageSpec, chain: Chain, project: Project, note: Callable[[str], None]
) -> None:
    """What the card takes out of the run can be there: a part of the chain, or a field of what the
    stage reads. It would be left out in silence, or fail in each run."""
    card = project.cards.get(stage.agent or "")
    fields = _fields_of(stage.reads, chain, project)
    if card is None or fields is None:
        return
    front = card.front
    named = [("given", name) for name in front.given or ()]
    named += [("recall.about", name) for name in (front.recall.about if front.recall else ())]
    named += [("instructions_from", name) for name in filter(None, [front.instructions_from])]
    parts = dict.fromkeys([*chain.topics, *filter(None, (one.makes for one in chain.stages))])

    def can_be_there(name: str) -> bool:
        around, _, field = name.rpartition(".")
        if name in parts or name in fields:
            return True
        inner = _fields_of(around, chain, project) if around in parts else []
        # Where a text stands in place of the fields, the agent is given the text.
        return can_be_there(around) if not inner and around else field in (inner or ())

    for key, name in named:
        if not can_be_there(name):
            known = [*parts, *fields]
            note(
                f"'{key}' of {card.file} names '{name}', which is no part of '{chain.name}' and no"
                f" field of '{stage.reads}' ({', '.join(known)}).{did_you_mean(name, known)}"
            )


def _fields_of(part: str, chain: Chain, project: Project) -> list[str] | None:
    """The fields of `part`; None where they cannot be known: people and Python steps write what
    they like."""
    if part in chain.entries:
        return None
    fields: list[str] = []
    for stage in chain.stages:
        if stage.makes != part:
            continue
        card = project.cards.get(stage.agent or "")
        if card is None or card.document.spoilt("output"):
            return None
        schema = card.output_for(stage.task)
        found = {} if schema is None else _plain_fields(schema)
        if found is None:
            return None
        fields += found
    return fields


def _plain_fields(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The fields of a schema that is not put together from others."""
    fields = schema.get("properties")
    is_plain = schema.keys().isdisjoint(("$ref", "allOf", "anyOf", "oneOf"))
    return fields if is_plain and isinstance(fields, dict) else None


def _check_outcomes(
    branches: Branches, card: Card, task: str | None, note: Callable[[str], None]
) -> None:
    """What decides a branch is in the card's schema, and each of its values has a way. Nothing is
    said of schemas that are put together from others."""
    schema = card.output_for(task)
    if schema is None:
        if not card.document.spoilt("output"):
            note(
                f"'by: {branches.by}' needs an answer in JSON, and {card.file} has no 'output'"
                f"{f' for the task {task!r}' if task else ''}"
            )
        return
    fields = _plain_fields(schema)
    if fields is None:
        return
    if branches.by not in fields:
        note(
            f"'by: {branches.by}' is no field of the output of {card.file}"
            f" ({', '.join(fields)}).{did_you_mean(branches.by, fields)}"
        )
        return
    field = fields[branches.by]
    values = [str(one) for one in field.get("enum", ())] if isinstance(field, dict) else []
    if not values:
        return
    for name in branches.outcomes:
        if name not in values and name != OTHERWISE:
            note(
                f"'{name}' is no value of '{branches.by}' in {card.file}"
                f" ({', '.join(values)}).{did_you_mean(name, values)}"
            )
    meant = {closest(name, values) for name in branches.outcomes}
    for value in values:
        if value not in meant and OTHERWISE not in branches.outcomes:
            note(
                f"'{branches.by}' of {card.file} can be '{value}', and no outcome says where that"
                f" goes. Add it, or '{OTHERWISE}'"
            )


def _check_front(card: Card, project: Project) -> None:
    """The model that a card names is of a provider or on this machine, and its tools are there,
    whoever uses it."""
    if card.front.model:
        try:
            resolve(card.front.model, dataclasses.replace(ANY_KEYS, project=project.root))
        except SettingsError as exc:
            card.document.note(exc.message, "model")
    for index, tool in enumerate(card.front.tools):
        known = project.registry.tools
        if tool not in known and not _is_in_broken(tool, project):
            card.document.note(
                f"there is no tool '{tool}'.{did_you_mean(tool, known)}"
                f" Tools: {', '.join(sorted(known)) or 'none'}. Register one with @tool.",
                *("tools", index),
            )


def _is_in_broken(name: str, project: Project) -> bool:
    """Whether `name` is in a file that could not be run: that was said, and is enough."""
    for file in project.broken:
        with contextlib.suppress(OSError):
            if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", file.read_text(errors="replace")):
                return True
    return False
