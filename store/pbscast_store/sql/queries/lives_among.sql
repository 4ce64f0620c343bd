-- $1–$10 criteria, $11 site, $12 begin, $13 end, $14 ids, $15 incarnations: those of them that match
SELECT asked.id, asked.incarnation
FROM unnest($14::text[], $15::integer[]) AS asked (id, incarnation)
CROSS JOIN LATERAL (
    SELECT
    FROM pbscast_log.lives AS l
    WHERE l.site = $11 AND l.id = asked.id AND l.incarnation = asked.incarnation
      AND -- include criteria
      AND -- include lasting
    LIMIT 1
) AS l;
