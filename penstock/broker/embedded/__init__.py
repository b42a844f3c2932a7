"""The embedded broker: topics in one SQLite file."""
