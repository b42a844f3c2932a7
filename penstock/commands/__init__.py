"""The commands: `penstock NAME`, and the same as `faust -A penstock NAME`."""

import penstock.commands.doctor
import penstock.commands.jobs
import penstock.commands.lag
import penstock.commands.letters
import penstock.commands.projects
import penstock.commands.runs
import penstock.commands.sandbox
import penstock.commands.status
import penstock.commands.stress
import penstock.commands.worker  # noqa: F401 - each registers its commands with Faust's command line
