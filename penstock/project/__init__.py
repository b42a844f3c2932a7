"""A project: its chains, cards and steps, read and checked."""
