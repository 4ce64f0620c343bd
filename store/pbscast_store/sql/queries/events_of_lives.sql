-- $1 site, $2 kind, of each life: $3 id, $4 incarnation, $5 first and $6 last position; life by life, in order
SELECT
    e.site, e.position, e."time", e.kind, e.id, e.incarnation, e.revision, e.event, e.provenance, e.owner, e.payload, e.logged,
    e.digest
FROM unnest($3::text[], $4::integer[], $5::bigint[], $6::bigint[]) WITH ORDINALITY AS life (id, incarnation, first, last, number)
CROSS JOIN LATERAL (
    SELECT *
    FROM pbscast_log.event AS e
    WHERE e.id = life.id AND e.kind = $2 AND e.site = $1 AND e.incarnation = life.incarnation
      AND e.position BETWEEN life.first AND life.last
    ORDER BY e.position
    OFFSET 0
) AS e
ORDER BY life.number, e.position;
