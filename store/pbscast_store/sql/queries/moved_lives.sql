-- $1 sites, $2 ids of jobs, $3 whose alone, or null for everybody's, but for $4 sites: all lives of those that were ever moved
SELECT l.site, l.id, l.first_position, l.last_position, l.began, l.ended, l.reason
FROM pbscast_log.lives AS l
WHERE l.site = ANY ($1) AND l.kind = 'job'
  AND ($3::text IS NULL OR l.owner = $3 OR l.site = ANY ($4::text[]))
  AND l.id = ANY (ARRAY(
    SELECT moved.id
    FROM pbscast_log.life AS moved
    WHERE moved.site = ANY ($1) AND moved.kind = 'job' AND moved.id = ANY ($2) AND moved.reason = 'moved'
      AND ($3::text IS NULL OR moved.owner = $3 OR moved.site = ANY ($4::text[]))
));
