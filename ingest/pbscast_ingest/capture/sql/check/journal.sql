-- From the ends of its key, never all of it: reading a full journal would cost PBS's machine dearly.
-- Counting stops at 100,000: a backlog is a backlog.
SELECT (SELECT count(*) FROM (SELECT FROM pbscast.journal ORDER BY seq LIMIT 100000) AS bounded) AS rows,
       pg_total_relation_size('pbscast.journal') AS bytes,
       pbscast.cap() AS cap_bytes,
       pg_database_size(current_database()) AS database_bytes,
       (SELECT extract(epoch FROM clock_timestamp() - j.at)::float8 FROM pbscast.journal j ORDER BY j.seq LIMIT 1) AS oldest_seconds,
       (SELECT extract(epoch FROM clock_timestamp() - j.at)::float8 FROM pbscast.journal j ORDER BY j.seq DESC LIMIT 1) AS newest_seconds,
       (SELECT count(*) FROM pg_catalog.pg_stat_activity a
         WHERE a.usename = %(reader)s AND a.datname = current_database()) AS sessions,
       (SELECT extract(epoch FROM clock_timestamp() - max(j.at))::float8
          FROM (SELECT op, at FROM pbscast.journal ORDER BY seq DESC LIMIT 10000) AS j WHERE j.op = 'H') AS beat_seconds,
       pbscast.mode() AS mode,
       (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM pbscast.gap_seq) AS lost,
       (SELECT format('%%s, %%s (%%s)', j.key, j.at::timestamp(0), array_to_string(j.context, ' '))
          FROM (SELECT seq, op, at, key, context FROM pbscast.journal ORDER BY seq DESC LIMIT 10000) AS j
         WHERE j.op = 'G' ORDER BY j.seq DESC LIMIT 1) AS last_gap,
       pbscast.is_full() AS is_full
