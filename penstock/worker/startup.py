"""Startup: what keeps a worker from starting is said before it starts."""

from penstock import private
from penstock.errors import ChainError, SettingsError
from penstock.installation import require_one_installation
from penstock.memory import Memory
from penstock.models.names import resolve
from penstock.project.project import Project
from penstock.settings import Settings


def check_startup(settings: Settings, project: Project) -> None:
    """The project is sound, what the settings name is there, and there is a folder for the data.
    Raises `PenstockError` with what to do."""
    require_one_installation()
    check_cards(settings, project)
    for name in settings.start:
        try:
            project.chain(name)
        except ChainError as exc:
            raise SettingsError(f"PENSTOCK_START: {exc.message}") from exc
    try:
        private.make_folder(settings.data)
    except OSError as exc:
        raise SettingsError(f"PENSTOCK_DATA: the folder cannot be made: {exc}") from exc


def check_cards(settings: Settings, project: Project) -> None:
    """The project is sound, its models are named, and its memory can be used. Raises
    `PenstockError` with what to do."""
    project.require_sound()
    if any(card.front.recall is not None for card in project.cards.values()):
        Memory(settings)  # only to see whether its settings can be used
    for spec in project.stages:
        if spec.agent is not None:
            resolve(project.cards[spec.agent].front.model, settings)
