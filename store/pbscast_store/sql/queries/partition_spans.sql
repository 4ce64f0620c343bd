-- $1 lower and $2 upper bound of a partition; which positions of each site it holds
SELECT site.name AS site, span.first, span.last
FROM pbscast_log.site
CROSS JOIN LATERAL (
    SELECT min(e.position) AS first, max(e.position) AS last
    FROM pbscast_log.event AS e
    WHERE e.site = site.name AND e.logged >= coalesce($1::timestamptz, '-infinity') AND e.logged < $2
) AS span
WHERE span.first IS NOT NULL
ORDER BY site.name;
