-- $1 sites, $2 kind, $3 ids
SELECT DISTINCT o.id FROM pbscast_log.object AS o WHERE o.site = ANY ($1) AND o.kind = $2 AND o.id = ANY ($3);
