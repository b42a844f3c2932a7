"""Builds the Faust App from the chains in topics/ and the cards in agents/; nothing else."""

import penstock.commands.faust_commands  # noqa: F401 - `faust -A app NAME` has Penstock's, too
from penstock.project.project import read_project
from penstock.settings import Settings
from penstock.worker.application import PenstockApp
from penstock.worker.seeding import add_seeding

settings = Settings.read()
project = read_project(settings.root)

app = PenstockApp(settings, project)
add_seeding(app)
