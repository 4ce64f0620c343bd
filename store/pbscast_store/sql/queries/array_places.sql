-- $1 kind, $2 first id and $3 end of the range of ids, $4 how an id must end, $5 site or null, $6 {site: position} to go on
-- after, $7 limit per site
SELECT place.site, place.position, place."time", place.bytes
FROM pbscast_log.site
CROSS JOIN LATERAL (
    SELECT e.site, e.position, e."time", octet_length(e.payload) AS bytes
    FROM pbscast_log.event AS e
    WHERE e.kind = $1 AND e.id >= $2 AND e.id < $3 AND right(e.id, length($4)) = $4 AND e.site = site.name
      AND e.position > coalesce(($6::jsonb ->> site.name)::bigint, 0)
    ORDER BY e.position
    LIMIT $7
) AS place
WHERE $5::text IS NULL OR site.name = $5
ORDER BY place.site, place.position;
