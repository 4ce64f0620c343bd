"""The event log and the projection of every site."""
