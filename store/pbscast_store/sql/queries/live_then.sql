-- $1–$10 criteria, $11 site, $12 time or null, $13 position or null, $14 whether ended lives as well: the latest of each
-- object, $15 first position to go on after, $16 limit
SELECT l.id, l.incarnation, l.first_position, l.last_position, l.began, l.ended, l.reason, l.exit_status,
    -- include superseded
    AS superseded
FROM pbscast_log.lives AS l
WHERE l.site = $11 AND l.first_position > $15
  AND -- include criteria
  AND ($12::timestamptz IS NULL OR l.began <= $12)
  AND ($13::bigint IS NULL OR l.first_position <= $13)
  AND CASE
      WHEN $14 THEN NOT EXISTS (
          SELECT
          FROM pbscast_log.lives AS later
          WHERE later.site = $11 AND later.kind = $1 AND later.id = l.id AND later.incarnation = l.incarnation + 1
            AND ($12::timestamptz IS NULL OR later.began <= $12)
            AND ($13::bigint IS NULL OR later.first_position <= $13)
      )
      WHEN $12::timestamptz IS NOT NULL THEN
          tstzrange(l.began, l.ended, '[]') @> $12 AND (l.ended IS NULL OR l.ended > $12)
      ELSE l.ended IS NULL OR l.last_position > $13
        OR -- include superseded
        > $13
  END
ORDER BY l.first_position
LIMIT $16;
