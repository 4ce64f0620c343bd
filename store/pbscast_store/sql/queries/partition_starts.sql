-- From when on each partition holds events, null for the first, and the first position of each site that it has.
SELECT site.name AS site, part.since, start.position
FROM (
    SELECT
        (regexp_match(pg_get_expr(c.relpartbound, c.oid), $$FROM \('([^']+)'\)$$))[1]::timestamptz AS since,
        (regexp_match(pg_get_expr(c.relpartbound, c.oid), $$TO \('([^']+)'\)$$))[1]::timestamptz AS until
    FROM pg_inherits
    JOIN pg_class AS c ON c.oid = pg_inherits.inhrelid
    WHERE pg_inherits.inhparent = 'pbscast_log.event'::regclass
) AS part
CROSS JOIN pbscast_log.site
CROSS JOIN LATERAL (
    SELECT e.position
    FROM pbscast_log.event AS e
    WHERE e.site = site.name AND e.logged >= coalesce(part.since, '-infinity') AND e.logged < part.until
    ORDER BY e.position
    LIMIT 1
) AS start
ORDER BY site.name, start.position;
