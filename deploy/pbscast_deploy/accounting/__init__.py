"""PBS's own accounting log, and its comparison with the event log."""
