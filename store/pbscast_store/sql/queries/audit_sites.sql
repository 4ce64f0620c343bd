-- Every site that any table speaks of, and its row if it has one
WITH RECURSIVE logged (site) AS (
    SELECT min(site) FROM pbscast_log.event
    UNION ALL
    SELECT (SELECT min(e.site) FROM pbscast_log.event AS e WHERE e.site > logged.site) FROM logged WHERE logged.site IS NOT NULL
),
folded (site) AS (
    SELECT min(site) FROM pbscast_log.object
    UNION ALL
    SELECT (SELECT min(o.site) FROM pbscast_log.object AS o WHERE o.site > folded.site) FROM folded WHERE folded.site IS NOT NULL
),
lived (site) AS (
    SELECT min(site) FROM pbscast_log.life
    UNION ALL
    SELECT (SELECT min(l.site) FROM pbscast_log.life AS l WHERE l.site > lived.site) FROM lived WHERE lived.site IS NOT NULL
)
SELECT
    spoken.site, head.position, pbscast_log.microseconds(head.logged) AS logged, head.digest, head.chained_after
FROM (
    SELECT name AS site FROM pbscast_log.site
    UNION SELECT site FROM logged UNION SELECT site FROM folded UNION SELECT site FROM lived
    UNION SELECT site FROM pbscast_log.checkpoint UNION SELECT site FROM pbscast_log.archive
) AS spoken
LEFT JOIN pbscast_log.site AS head ON head.name = spoken.site
WHERE spoken.site IS NOT NULL
ORDER BY spoken.site;
