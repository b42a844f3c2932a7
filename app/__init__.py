"""This repository's Faust app: `faust -A app worker`."""

from app.main import app

__all__ = ["app"]
