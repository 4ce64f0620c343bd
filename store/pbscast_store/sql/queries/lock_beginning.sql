-- 'pbscast' as a number: one at a time makes the table of migrations, which later ones lock
SELECT pg_advisory_xact_lock(31640405171069812);
