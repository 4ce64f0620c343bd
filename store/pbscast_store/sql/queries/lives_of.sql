-- $1 sites, $2 kind, $3 ids, $4 whose lives alone, or null for everybody's, but for $5 sites
SELECT l.site, l.id, l.incarnation, l.first_position AS first, l.last_position AS last
FROM pbscast_log.lives AS l
WHERE l.site = ANY ($1) AND l.kind = $2 AND l.id = ANY ($3)
  AND ($4::text IS NULL OR l.owner = $4 OR l.site = ANY ($5::text[]));
