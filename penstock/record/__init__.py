"""What stands on topics, and the event log."""
