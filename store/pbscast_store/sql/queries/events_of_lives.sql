-- $1 site, $2 kind, of each life: $3 id, $4 incarnation, $5 first and $6 last position; $7 from when and $8 to when its
-- events were logged; life by life, in order. Nothing is sorted: lives come as they are counted, the events of each by the index.
SELECT
    e.site, e.position, e."time", e.kind, e.id, e.incarnation, e.revision, e.event, e.provenance, e.owner, e.payload, e.logged,
    e.digest
FROM unnest($3::text[], $4::integer[], $5::bigint[], $6::bigint[], $7::timestamptz[], $8::timestamptz[]) WITH ORDINALITY
    AS life (id, incarnation, first, last, since, until, number)
CROSS JOIN LATERAL (
    SELECT *
    FROM pbscast_log.event AS e
    WHERE e.id = life.id AND e.kind = $2 AND e.site = $1 AND e.incarnation = life.incarnation
      AND e.logged >= life.since AND e.logged < life.until
      AND e.position BETWEEN life.first AND life.last
    ORDER BY e.position
) AS e
ORDER BY life.number;
