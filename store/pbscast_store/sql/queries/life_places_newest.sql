-- $1 kind, $2 site, of each life: $3 id, $4 incarnation, $5 first and $6 last position; $7 and $8 between which positions,
-- $9 begin, $10 end, $11 limit; $12 from when and $13 to when each life's events were logged
SELECT $2 AS site, place.position, place."time", place.logged, place.bytes, life.id, life.incarnation
FROM unnest($3::text[], $4::integer[], $5::bigint[], $6::bigint[], $12::timestamptz[], $13::timestamptz[])
    AS life (id, incarnation, first, last, since, until)
CROSS JOIN LATERAL (
    SELECT e.position, e."time", e.logged, octet_length(e.payload) AS bytes
    FROM pbscast_log.event AS e
    WHERE e.id = life.id AND e.kind = $1 AND e.site = $2 AND e.incarnation = life.incarnation
      AND e.logged >= life.since AND e.logged < life.until
      AND e.position > greatest($7, life.first - 1) AND e.position < least($8, life.last + 1)
      AND ($9::timestamptz IS NULL OR e."time" >= $9) AND ($10::timestamptz IS NULL OR e."time" < $10)
    ORDER BY e.position DESC
    LIMIT $11
) AS place
ORDER BY place.position DESC
LIMIT $11;
