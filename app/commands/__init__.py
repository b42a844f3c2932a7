"""The commands: `faust -A app NAME`, and the same as `penstock NAME`."""

import app.commands.doctor
import app.commands.jobs
import app.commands.lag
import app.commands.letters
import app.commands.projects
import app.commands.runs
import app.commands.sandbox
import app.commands.status
import app.commands.stress
import app.commands.worker  # noqa: F401 - each registers its commands with Faust's command line
