"""Builds the Faust App from the settings; nothing else."""

from penstock.project.project import read_project
from penstock.settings import Settings
from penstock.worker.application import PenstockApp
from penstock.worker.seeding import add_seeding


def build(settings: Settings | None = None) -> PenstockApp:
    """The app of the project that the settings name. Raises `SettingsError`; what is wrong with
    the project itself is in `penstock.project.project.problems`, so that `check` can say it all."""
    settings = settings or Settings.read()
    app = PenstockApp(settings, read_project(settings.root))
    add_seeding(app)
    return app
