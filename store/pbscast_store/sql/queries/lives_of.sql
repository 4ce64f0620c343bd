-- $1 sites, $2 kind, $3 ids
SELECT l.site, l.id, l.incarnation, l.first_position AS first, l.last_position AS last
FROM pbscast_log.lives AS l
WHERE l.site = ANY ($1) AND l.kind = $2 AND l.id = ANY ($3);
