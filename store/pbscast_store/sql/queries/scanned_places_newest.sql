-- $1 kind, $2 site, $3 and $4 between which positions, $5 begin, $6 end, $7 limit; $8 from when and $9 to when they were logged
SELECT e.site, e.position, e."time", e.logged, octet_length(e.payload) AS bytes, e.id, e.incarnation
FROM pbscast_log.event AS e
WHERE e.kind = $1 AND e.site = $2 AND e.position > $3 AND e.position < $4
  AND e.logged >= $8 AND e.logged < $9
  AND ($5::timestamptz IS NULL OR e."time" >= $5)
  AND ($6::timestamptz IS NULL OR e."time" < $6)
ORDER BY e.position DESC
LIMIT $7;
