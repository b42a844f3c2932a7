"""What `faust -A penstock` runs: the app of the project that the settings name."""

from penstock.worker.build import build

__all__ = ["build"]
