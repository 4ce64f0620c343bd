-- $1–$10 criteria, $11 site, $12 begin, $13 end, $14 and $15 between which positions, $16 limit; in no order
SELECT l.id, l.incarnation, l.first_position AS first, l.last_position AS last
FROM pbscast_log.lives AS l
WHERE l.site = $11 AND l.last_position > $14 AND l.first_position < $15
  AND -- include criteria
  AND -- include lasting
LIMIT $16;
