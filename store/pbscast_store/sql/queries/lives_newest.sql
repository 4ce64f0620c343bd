-- $1–$10 criteria, $11 site, $12 begin, $13 end (either may be null), $14 first position to go on below, $15 limit
SELECT l.*
FROM pbscast_log.lives AS l
WHERE l.site = $11 AND l.first_position < $14
  AND -- include criteria
  AND -- include lasting
ORDER BY l.first_position DESC
LIMIT $15;
