-- $1 site; an object of which there is no event
SELECT kind, id, position
FROM pbscast_log.object AS o
WHERE site = $1 AND NOT EXISTS (
    SELECT FROM pbscast_log.event AS e WHERE e.id = o.id AND e.kind = o.kind AND e.site = o.site
)
ORDER BY position, kind, id
LIMIT 1;
