-- $1 site, $2 kind, of each life: $3 id, $4 incarnation, $5 first and $6 last position; $7 time or null, $8 position or null,
-- $9 characters of payload, $10 from when and $11 to when each life's events were logged; in the order given, lives that had
-- not begun are left out
SELECT
    life.number, e.position, e.revision, octet_length(e.payload) AS bytes, left(e.payload, $9) AS beginning,
    $8::bigint IS NOT NULL AND EXISTS (
        SELECT
        FROM pbscast_log.event AS f
        WHERE f.id = life.id AND f.kind = $2 AND f.site = $1 AND f.incarnation = life.incarnation
          AND f.logged >= life.since AND f.logged < life.until
          AND f.position BETWEEN life.first AND $8 AND f.event = 'finalize'
    ) AS finalized
FROM unnest($3::text[], $4::integer[], $5::bigint[], $6::bigint[], $10::timestamptz[], $11::timestamptz[]) WITH ORDINALITY
    AS life (id, incarnation, first, last, since, until, number)
CROSS JOIN LATERAL (
    SELECT e.position, e.revision, e.payload
    FROM pbscast_log.event AS e
    WHERE e.id = life.id AND e.kind = $2 AND e.site = $1 AND e.incarnation = life.incarnation
      AND e.logged >= life.since AND e.logged < life.until
      AND e.position BETWEEN life.first AND least(life.last, $8) AND ($7::timestamptz IS NULL OR e."time" <= $7)
    ORDER BY e.position DESC
    LIMIT 1
) AS e
ORDER BY life.number;
