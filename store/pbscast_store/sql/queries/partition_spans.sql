-- $1 lower and $2 upper bound of a partition; which positions of each site it holds, also of one that the log does not know
WITH RECURSIVE held (site) AS (
    SELECT min(e.site) FROM pbscast_log.event AS e WHERE e.logged >= coalesce($1::timestamptz, '-infinity') AND e.logged < $2
    UNION ALL
    SELECT (
        SELECT min(e.site)
        FROM pbscast_log.event AS e
        WHERE e.site > held.site AND e.logged >= coalesce($1::timestamptz, '-infinity') AND e.logged < $2
    )
    FROM held
    WHERE held.site IS NOT NULL
)
SELECT held.site, span.first, span.last, site.name IS NOT NULL AS is_known
FROM held
LEFT JOIN pbscast_log.site ON site.name = held.site
CROSS JOIN LATERAL (
    SELECT min(e.position) AS first, max(e.position) AS last
    FROM pbscast_log.event AS e
    WHERE e.site = held.site AND e.logged >= coalesce($1::timestamptz, '-infinity') AND e.logged < $2
) AS span
WHERE held.site IS NOT NULL
ORDER BY held.site;
