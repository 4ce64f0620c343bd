-- $1–$10 criteria, $11 site, $12 and $13 times or null, $14 and $15 positions or null, $16 first position to go on after,
-- $17 limit; what may have events after the first of each and up to the second, or was superseded there, its life not having
-- ended before
SELECT l.id, l.incarnation, l.first_position, l.last_position, l.began, l.ended, l.reason, l.exit_status,
    -- include superseded
    AS superseded
FROM pbscast_log.lives AS l
WHERE l.site = $11 AND l.first_position > $16
  AND -- include criteria
  AND ($12::timestamptz IS NULL OR tstzrange(l.began, l.ended, '[]') && tstzrange($12, $13, '[]'))
  AND ($12::timestamptz IS NULL OR l.ended IS NULL OR l.ended > $12)
  AND (
      $14::bigint IS NULL
      OR l.first_position <= $15 AND (
          l.last_position > $14
          OR -- include superseded
          > $14
      )
  )
ORDER BY l.first_position
LIMIT $17;
