-- $1–$10 criteria, $11 site, $12 whether ended ones as well, $13 whether attributes, $14 first position to go on after, $15 limit
SELECT
    l.site, l.kind, l.id, l.incarnation, l.revision, l.position, l.first_position, l.began, l.owner, l.queue, l.project, l.name,
    l.state, l.substate, l.ended, l.reason, l.exit_status,
    CASE WHEN $13 THEN jsonb_strip_nulls(l.base::jsonb || l.recent) END AS attributes,
    CASE WHEN $13 THEN l.columns END AS columns
FROM pbscast_log.object AS l
WHERE l.site = $11 AND l.first_position > $14
  AND -- include criteria
  AND ($12 OR l.ended IS NULL)
ORDER BY l.first_position
LIMIT $15;
