"""Proof: the log is complete, in order and untouched, and the projection says what the log says."""
