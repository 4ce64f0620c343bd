"""A period of the log on one page: jobs in each state, waits, runs and ends, by site and owner."""
