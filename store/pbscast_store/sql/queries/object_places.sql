-- $1 kind, $2 id, $3 site or null, $4 {site: position} to go on after, $5 limit per site
SELECT place.site, place.position, place."time", place.bytes
FROM pbscast_log.site
CROSS JOIN LATERAL (
    SELECT e.site, e.position, e."time", octet_length(e.payload) AS bytes
    FROM pbscast_log.event AS e
    WHERE e.kind = $1 AND e.id = $2 AND e.site = site.name
      AND e.position > coalesce(($4::jsonb ->> site.name)::bigint, 0)
    ORDER BY e.position
    LIMIT $5
) AS place
WHERE $3::text IS NULL OR site.name = $3
ORDER BY place.site, place.position;
