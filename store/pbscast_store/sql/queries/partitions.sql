-- Partitions of the log, oldest first. The first may reach back without limit.
SELECT part.relname::text AS name, bounds.lower, bounds.upper, clock_timestamp() AS now
FROM pg_inherits
JOIN pg_class AS part ON part.oid = pg_inherits.inhrelid
CROSS JOIN LATERAL (
    SELECT
        (regexp_match(pg_get_expr(part.relpartbound, part.oid), $$FROM \('([^']+)'\)$$))[1]::timestamptz AS lower,
        (regexp_match(pg_get_expr(part.relpartbound, part.oid), $$TO \('([^']+)'\)$$))[1]::timestamptz AS upper
) AS bounds
WHERE pg_inherits.inhparent = 'pbscast_log.event'::regclass AND bounds.upper IS NOT NULL
ORDER BY bounds.upper;
