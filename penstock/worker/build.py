"""Builds the Faust app from the settings; nothing else."""

from penstock.project.project import Project, read_project
from penstock.settings import Settings
from penstock.worker.application import PenstockApp
from penstock.worker.seeding import add_seeding


def build(settings: Settings | None = None, project: Project | None = None) -> PenstockApp:
    """The app of `project`, or of the one that the settings name. Raises `SettingsError`; what is
    wrong with the project itself is in its `problems`, so that `check` can say it all."""
    settings = settings or Settings.read()
    app = PenstockApp(settings, project or read_project(settings.root))
    add_seeding(app)
    return app
