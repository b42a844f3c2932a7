"""Builds the Faust App from the settings; nothing else."""

from app.application import PenstockApp
from app.project import read_project
from app.seeding import add_seeding
from app.settings import Settings


def build(settings: Settings | None = None) -> PenstockApp:
    """The app of the project that the settings name. Raises `SettingsError`; what is wrong with
    the project itself is in `app.project.problems`, so that `check` can say it all."""
    settings = settings or Settings.read()
    app = PenstockApp(settings, read_project(settings.root))
    add_seeding(app)
    return app
