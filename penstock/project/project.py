"""A project: the cards, chains and Python steps of one folder, read once, checked together."""

import contextlib
import dataclasses
import pathlib
import re

from penstock.broker.contract import Pipeline, Plan
from penstock.errors import ChainError, ProjectError, SettingsError, did_you_mean
from penstock.models.names import split
from penstock.project.branches import OTHERWISE, Branches
from penstock.project.cards import Card, read_card
from penstock.project.chain_files import read_chain
from penstock.project.chains import Chain, StageSpec
from penstock.project.modules import load_steps
from penstock.project.taken_names import hidden_sdk
from penstock.steps import Registry, built_in


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
    #: The files of steps/ that could not be run, and what was said of each.
    broken: dict[pathlib.Path, str] = dataclasses.field(default_factory=dict)

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

    def require_sound(self) -> None:
        """Raises `ProjectError` with all the problems, when there are any."""
        if self.problems:
            raise ProjectError("\n".join(self.problems))


def read_project(root: pathlib.Path) -> Project:
    """Everything in `root`: agents/*.md, topics/*.yaml and steps/*.py. Never raises for a mistake
    in one of them: it is in `problems`, and the rest is read on."""
    project = Project(root=root, cards={}, chains={}, registry=built_in(), problems=[])
    hidden = hidden_sdk(root)
    if hidden is not None:
        project.problems.append(hidden)
    for file in sorted((root / "agents").glob("*.md")):
        try:
            project.cards[file.stem] = read_card(file)
        except ProjectError as exc:
            project.problems.append(exc.message)
    project.broken = load_steps(root, project.registry)
    project.problems += dict.fromkeys(project.broken.values())
    for card in project.cards.values():
        _check_front(card, project)
    files = sorted((root / "topics").glob("*.yaml")) + sorted((root / "topics").glob("*.yml"))
    if not files:
        project.problems.append(
            f"{root.absolute()}: there is no chain here (topics/NAME.yaml)."
            " Go to a project's folder, name it with PENSTOCK_PROJECT, or make one:"
            " penstock new NAME"
        )
    for file in files:
        try:
            chain = read_chain(file)
            _check_against_others(chain, project)
            project.chains[chain.name] = chain
        except ProjectError as exc:
            if exc.message not in project.problems:
                project.problems.append(exc.message)
    return project


def _check_against_others(chain: Chain, project: Project) -> None:
    for other in project.chains.values():
        if other.name == chain.name:
            raise ChainError(f"{chain.file}: the pipeline '{chain.name}' is also in {other.file}")
        shared = sorted(set(other.topics) & set(chain.topics))
        if shared:
            raise ChainError(
                f"{chain.file}: the topic '{shared[0]}' belongs to '{other.name}' ({other.file});"
                " a topic belongs to one pipeline"
            )
    taken = {stage.name for stage in project.stages}
    for stage in chain.stages:
        if stage.name in taken:
            raise ChainError(f"{stage.where}: another pipeline has a stage '{stage.name}'")
        if stage.agent is not None:
            _check_card(stage, project)
        step = stage.check or stage.step
        if step is not None and step not in project.registry.steps:
            known = project.registry.steps
            raise _missing(
                step,
                project,
                f"{stage.where}: there is no step '{step}'.{did_you_mean(step, known)}"
                f" Steps: {', '.join(sorted(known))}. Register one in steps/*.py with @step.",
            )


def _check_card(stage: StageSpec, project: Project) -> None:
    assert stage.agent is not None
    card = project.cards.get(stage.agent)
    file = project.root / "agents" / f"{stage.agent}.md"
    if card is None:
        if file.exists():
            raise ChainError(f"{stage.where}: the card '{stage.agent}' cannot be used, see above")
        raise ChainError(
            f"{stage.where}: the card {file} is missing.{did_you_mean(stage.agent, project.cards)}"
        )
    for task in (stage.task, stage.again):
        if task is not None and task not in card.tasks:
            raise ChainError(
                f"{stage.where}: {card.file} has no section '## Task: {task}'."
                f"{did_you_mean(task, card.tasks)} Tasks there: {', '.join(card.tasks) or 'none'}."
            )
    if not card.instructions(stage.task) and not card.front.instructions_from:
        raise ChainError(f"{stage.where}: {card.file} has no instructions for this stage")
    if stage.branches is not None:
        for task in dict.fromkeys((stage.task, stage.again or stage.task)):
            _check_outcomes(stage, stage.branches, card, task)


def _check_outcomes(stage: StageSpec, branches: Branches, card: Card, task: str | None) -> None:
    """What decides a branch is in the card's schema, and each of its values has a way. Nothing is
    said of schemas that are put together from others."""
    schema = card.output_for(task)
    if schema is None:
        raise ChainError(
            f"{stage.where}: 'by: {branches.by}' needs an answer in JSON, and {card.file} has no"
            f" 'output'{f' for the task {task!r}' if task else ''}"
        )
    fields = schema.get("properties")
    if not isinstance(fields, dict) or not schema.keys().isdisjoint(("$ref", "allOf", "anyOf")):
        return
    if branches.by not in fields:
        raise ChainError(
            f"{stage.where}: 'by: {branches.by}' is no field of the output of {card.file}"
            f" ({', '.join(fields)}).{did_you_mean(branches.by, fields)}"
        )
    field = fields[branches.by]
    values = [str(one) for one in field.get("enum", ())] if isinstance(field, dict) else []
    if not values:
        return
    for name in branches.outcomes:
        if name not in values and name != OTHERWISE:
            raise ChainError(
                f"{stage.where}: '{name}' is no value of '{branches.by}' in {card.file}"
                f" ({', '.join(values)}).{did_you_mean(name, values)}"
            )
    for value in values:
        if value not in branches.outcomes and OTHERWISE not in branches.outcomes:
            raise ChainError(
                f"{stage.where}: '{branches.by}' of {card.file} can be '{value}', and no outcome"
                f" says where that goes. Add it, or '{OTHERWISE}'"
            )


def _check_front(card: Card, project: Project) -> None:
    """The model that a card names is of a provider, and its tools are there, whoever uses it."""
    model = card.front.model
    if model and not model.startswith(("http://", "https://")):
        try:
            split(model)
        except SettingsError as exc:
            project.problems.append(f"{card.file}: {exc.message}")
    for tool in card.front.tools:
        if tool not in project.registry.tools:
            known = project.registry.tools
            error = _missing(
                tool,
                project,
                f"{card.file}: there is no tool '{tool}'.{did_you_mean(tool, known)}"
                f" Tools: {', '.join(sorted(known)) or 'none'}. Register one with @tool.",
            )
            if error.message not in project.problems:
                project.problems.append(error.message)


def _missing(name: str, project: Project, message: str) -> ChainError:
    """What is wrong when there is no `name`: where it is in a file that could not be run, that, and
    nothing more, as it was said."""
    for file, said in project.broken.items():
        with contextlib.suppress(OSError):
            if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", file.read_text(errors="replace")):
                return ChainError(said)
    return ChainError(message)
