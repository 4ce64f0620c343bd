-- What the reader may not do but should, and may do but should not; NULL if it does not exist.
SELECT r.rolcanlogin,
       ARRAY(SELECT t FROM unnest(ARRAY['pbs.job', 'pbs.queue', 'pbs.node', 'pbs.resv', 'pbs.server', 'pbs.scheduler', 'pbs.info', 'pbscast.journal']) AS t
              WHERE to_regclass(t) IS NOT NULL AND NOT has_table_privilege(r.oid, t, 'SELECT')) AS lacks,
       r.rolsuper OR EXISTS (SELECT FROM unnest(ARRAY['pbs.job', 'pbs.queue', 'pbs.node', 'pbs.resv', 'pbs.server', 'pbs.scheduler', 'pbs.job_scr']) AS t
              WHERE to_regclass(t) IS NOT NULL
                AND has_table_privilege(r.oid, t, CASE t WHEN 'pbs.job_scr' THEN 'SELECT' ELSE 'INSERT, UPDATE, DELETE, TRUNCATE' END)) AS exceeds
  FROM pg_catalog.pg_roles r WHERE r.rolname = %(reader)s
