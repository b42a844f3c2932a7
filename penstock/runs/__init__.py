"""Runs, read from the topics."""
