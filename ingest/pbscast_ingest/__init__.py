"""Capture inside the PBS datastore, and the way from its journal to the log."""
