-- $1 sites, $2 ids of jobs: all lives of those that were ever moved
SELECT l.site, l.id, l.first_position, l.last_position, l.began, l.ended, l.reason
FROM pbscast_log.lives AS l
WHERE l.site = ANY ($1) AND l.kind = 'job' AND l.id = ANY (ARRAY(
    SELECT moved.id
    FROM pbscast_log.life AS moved
    WHERE moved.site = ANY ($1) AND moved.kind = 'job' AND moved.id = ANY ($2) AND moved.reason = 'moved'
));
