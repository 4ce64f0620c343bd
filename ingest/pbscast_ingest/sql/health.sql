-- The backlog is counted up to a bound: a cold journal of gigabytes must not be read twice to be looked at.
SELECT
    statement_timestamp() AS now,
    ARRAY(SELECT pbscast.defects()) AS defects,
    pbscast.mode() AS mode,
    (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM pbscast.gap_seq) AS lost,
    pg_total_relation_size('pbscast.journal') AS bytes,
    (
        SELECT count(*)
        FROM (SELECT FROM pbscast.journal WHERE seq > %(top)s ORDER BY seq LIMIT %(most)s) AS unread
    ) AS lag_rows,
    extract(epoch FROM clock_timestamp() - (
        SELECT at FROM pbscast.journal WHERE seq > %(top)s ORDER BY seq LIMIT 1
    )) AS lag_seconds,
    pbscast.is_full() AS is_full,
    (
        -- As pbscast.shape() says it, which an older capture does not have.
        (
            SELECT md5(coalesce(string_agg(concat_ws(' ', t.tgrelid, t.tgname, t.oid, t.xmin, t.tgenabled), ',' ORDER BY t.oid), ''))
            FROM pg_trigger AS t
            JOIN pg_proc AS p ON p.oid = t.tgfoid
            JOIN pg_namespace AS n ON n.oid = p.pronamespace AND n.nspname = 'pbscast'
        ) || (
            SELECT coalesce(string_agg(concat_ws(' ', '', p.proname, p.oid, p.xmin), ',' ORDER BY p.oid), '')
            FROM pg_proc AS p
            JOIN pg_namespace AS n ON n.oid = p.pronamespace AND n.nspname = 'pbscast'
            CROSS JOIN pbscast.installation AS i
            WHERE p.xmin <> i.xmin
                AND p.proname IN (SELECT split_part(installed, '(', 1) FROM unnest(i.functions) AS installed)
                AND p.proname NOT IN ('mode', 'set_mode', 'pause', 'resume', 'functions', 'missing_rights', 'defects', 'shape', 'identity', 'heartbeat', 'reclaim')
        ) || (
            SELECT coalesce(max(concat(' ', n.xmin)), '')
            FROM pg_namespace AS n
            CROSS JOIN pbscast.installation AS i
            WHERE n.nspname = 'pbscast' AND n.xmin <> i.xmin
        ) || (
            SELECT coalesce(max('/' || md5(to_json(i) ->> 'replaced')), '')
            FROM pbscast.installation AS i
        )
    ) AS shape,
    -- An installation makes functions anew and loses nothing by that: it says what it found, and what it left.
    (SELECT to_json(i) ->> 'shape' FROM pbscast.installation AS i) AS left_as,
    (SELECT to_json(i) ->> 'replaced' FROM pbscast.installation AS i) AS replaced
