-- Sessions that an installation or the switch would wait for: they hold a lock on a table of PBS or ours, are an installation,
-- or sit idle in a transaction that wrote.
SELECT a.pid, coalesce(a.application_name, ''), coalesce(a.usename::text, ''),
       coalesce(a.state, ''), coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::integer
  FROM pg_catalog.pg_stat_activity a
 WHERE a.pid <> pg_backend_pid() AND a.datname = current_database()
   AND (a.state LIKE 'idle in transaction%' AND a.backend_xid IS NOT NULL
        OR EXISTS (SELECT FROM pg_catalog.pg_locks l
                     LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname IN ('pbs', 'pbscast'))
                            ON c.oid = l.relation AND l.locktype = 'relation'
                    WHERE l.pid = a.pid AND l.granted
                      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
                      AND (c.oid IS NOT NULL OR l.locktype = 'advisory' AND l.objsubid = 2
                           AND l.classid = (hashtext('pbscast')::bigint & 4294967295)::oid
                           AND l.objid = (hashtext('install')::bigint & 4294967295)::oid)))
 ORDER BY 5 DESC LIMIT 5
