"""A project: the cards, chains and Python steps of one folder, read once, checked together."""

import dataclasses
import difflib
import importlib.util
import pathlib
import sys
import traceback
from collections.abc import Iterable

from penstock.errors import ChainError, ProjectError, StepError
from penstock.project.cards import Card, read_card
from penstock.project.chain_files import read_chain
from penstock.project.chains import Chain, StageSpec
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

    @property
    def stages(self) -> list[StageSpec]:
        return [stage for chain in self.chains.values() for stage in chain.stages]

    @property
    def one_worker_topics(self) -> frozenset[str]:
        """The topics whose events all stand in one partition, for one worker of the cluster."""
        return frozenset(stage.reads for stage in self.stages if stage.one_worker)

    def chain(self, name: str) -> Chain:
        """The chain `name`. Raises `ChainError` that lists the ones there are."""
        if name not in self.chains:
            close = difflib.get_close_matches(name, self.chains, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
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
    for file in sorted((root / "agents").glob("*.md")):
        try:
            project.cards[file.stem] = read_card(file)
        except ProjectError as exc:
            project.problems.append(exc.message)
    for file in sorted((root / "steps").glob("*.py")):
        try:
            _load_steps(file, project.registry)
        except ProjectError as exc:
            project.problems.append(exc.message)
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
            raise ChainError(f"{stage.place}: another pipeline has a stage '{stage.name}'")
        if stage.agent is not None:
            _check_card(stage, project)
        step = stage.check or stage.step
        if step is not None and step not in project.registry.steps:
            known = project.registry.steps
            raise ChainError(
                f"{stage.place}: there is no step '{step}'.{_hint(step, known)}"
                f" Steps: {', '.join(sorted(known))}. Register one in steps/*.py with @step."
            )


def _check_card(stage: StageSpec, project: Project) -> None:
    assert stage.agent is not None
    card = project.cards.get(stage.agent)
    file = project.root / "agents" / f"{stage.agent}.md"
    if card is None:
        if file.exists():
            raise ChainError(f"{stage.place}: the card '{stage.agent}' cannot be used, see above")
        raise ChainError(
            f"{stage.place}: the card {file} is missing.{_hint(stage.agent, project.cards)}"
        )
    for task in (stage.task, stage.again):
        if task is not None and task not in card.tasks:
            raise ChainError(
                f"{stage.place}: {card.file} has no section '## Task: {task}'."
                f"{_hint(task, card.tasks)} Tasks there: {', '.join(card.tasks) or 'none'}."
            )
    if not card.instructions(stage.task) and not card.front.instructions_from:
        raise ChainError(f"{stage.place}: {card.file} has no instructions for this stage")
    for tool in card.front.tools:
        if tool not in project.registry.tools:
            known = project.registry.tools
            raise ChainError(
                f"{card.file}: there is no tool '{tool}'.{_hint(tool, known)}"
                f" Tools: {', '.join(sorted(known)) or 'none'}. Register one with @tool."
            )


def _hint(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def _load_steps(file: pathlib.Path, registry: Registry) -> None:
    """Run `file`, with its `@step` and `@tool` functions going into `registry`."""
    name = f"penstock_steps.{file.stem}"
    found = importlib.util.spec_from_file_location(name, file)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    # Under its own name in sys.modules, as dataclasses and pickling look a class's module up.
    sys.modules[name] = module
    with registry.collecting(str(file)):
        try:
            found.loader.exec_module(module)
        except ProjectError:
            raise
        except (Exception, SystemExit) as exc:
            line = next(
                (
                    f.lineno
                    for f in reversed(traceback.extract_tb(exc.__traceback__))
                    if f.filename == str(file)
                ),
                getattr(exc, "lineno", None) or 1,
            )
            raise StepError(f"{file}:{line}: {type(exc).__name__}: {exc}") from exc
