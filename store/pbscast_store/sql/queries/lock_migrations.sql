-- 'pbscast' as a number: one migration of this database at a time
SELECT pg_advisory_xact_lock(31640405171069812);
