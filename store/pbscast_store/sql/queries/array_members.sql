-- $1 sites, $2 kind, $3 first id and $4 end of the range of ids, $5 how an id must end
SELECT DISTINCT o.id
FROM pbscast_log.object AS o
WHERE o.site = ANY ($1) AND o.kind = $2 AND o.id >= $3 AND o.id < $4 AND right(o.id, length($5)) = $5
ORDER BY o.id;
