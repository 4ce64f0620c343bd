-- What is there apart from our own objects; answers on any PostgreSQL database.
SELECT current_setting('server_version_num')::integer AS server_version_num,
       current_setting('server_version') AS server_version,
       to_regclass('pbs.info') IS NOT NULL AS has_pbs,
       (SELECT n.nspname::text FROM pg_catalog.pg_extension e
          JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'hstore') AS hstore_schema,
       to_regclass('pbscast.installation') IS NOT NULL AS has_installation,
       pg_notification_queue_usage() AS queue_usage,
       (SELECT format('pid %s (%s) for %s s', a.pid, coalesce(nullif(a.application_name, ''), 'unnamed'),
                      extract(epoch FROM clock_timestamp() - a.xact_start)::integer)
          FROM pg_catalog.pg_stat_activity a
         WHERE a.datname = current_database() AND a.state LIKE 'idle in transaction%'
         ORDER BY a.xact_start LIMIT 1) AS idle_in_transaction
