"""The jobs queue, as its users see it."""
