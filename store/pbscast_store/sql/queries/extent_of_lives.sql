-- $1–$10 criteria, $11 site, $12 begin, $13 end, $14 and $15 between which positions
SELECT min(l.first_position) AS first, max(l.last_position) AS last
FROM pbscast_log.lives AS l
WHERE l.site = $11 AND l.last_position > $14 AND l.first_position < $15
  AND -- include criteria
  AND -- include lasting
;
