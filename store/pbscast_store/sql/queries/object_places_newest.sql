-- $1 kind, $2 ids, of each site: $3 name, $4 and $5 between which positions; $6 begin, $7 end, $8 limit of each site
SELECT asked.site, place.position, place."time", place.logged, place.bytes, place.id, place.incarnation
FROM unnest($3::text[], $4::bigint[], $5::bigint[]) AS asked (site, after, before)
CROSS JOIN LATERAL (
    SELECT e.*
    FROM unnest($2::text[]) AS wanted (id)
    CROSS JOIN LATERAL (
        SELECT e.position, e."time", e.logged, octet_length(e.payload) AS bytes, e.id, e.incarnation
        FROM pbscast_log.event AS e
        WHERE e.id = wanted.id AND e.kind = $1 AND e.site = asked.site
          AND e.position > asked.after AND e.position < asked.before
          AND ($6::timestamptz IS NULL OR e."time" >= $6) AND ($7::timestamptz IS NULL OR e."time" < $7)
        ORDER BY e.position DESC
        LIMIT $8
    ) AS e
    ORDER BY e.position DESC
    LIMIT $8
) AS place
ORDER BY asked.site, place.position DESC;
