-- One at a time, until the connection ends.
SELECT pg_try_advisory_lock(31640405171069820);
