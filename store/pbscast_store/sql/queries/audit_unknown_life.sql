-- $1 site; a life that no object had, or has not ended
SELECT l.kind, l.id, l.incarnation, l.last_position AS position
FROM pbscast_log.life AS l
LEFT JOIN pbscast_log.object AS o USING (site, kind, id)
WHERE l.site = $1 AND (
    o.id IS NULL OR l.incarnation < 1 OR l.incarnation > o.incarnation OR (l.incarnation = o.incarnation AND o.ended IS NULL)
)
ORDER BY l.last_position, l.kind, l.id
LIMIT 1;
