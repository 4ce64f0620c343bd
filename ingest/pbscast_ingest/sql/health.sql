SELECT
    statement_timestamp() AS now,
    ARRAY(SELECT pbscast.defects()) AS defects,
    pbscast.mode() AS mode,
    (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM pbscast.gap_seq) AS lost,
    pg_total_relation_size('pbscast.journal') AS bytes,
    (SELECT count(*) FROM pbscast.journal WHERE seq > %(top)s) AS lag_rows,
    (SELECT extract(epoch FROM clock_timestamp() - min(at)) FROM pbscast.journal WHERE seq > %(top)s) AS lag_seconds
