-- $1 sites, $2 ids of jobs; of arrays $3 where the range of their ids begins, $4 where it ends, $5 how an id must end
SELECT l.site, l.id, l.owner, l.incarnation, l.position, l.began, l.ended, l.reason
FROM pbscast_log.object AS l
WHERE l.site = ANY ($1) AND l.kind = 'job' AND l.id = ANY ($2)
UNION ALL
SELECT l.site, l.id, l.owner, l.incarnation, l.position, l.began, l.ended, l.reason
FROM unnest($1::text[]) AS s (site)
CROSS JOIN unnest($3::text[], $4::text[], $5::text[]) AS a (low, high, tail)
CROSS JOIN LATERAL (
    SELECT o.*
    FROM pbscast_log.object AS o
    WHERE o.site = s.site AND o.kind = 'job' AND o.id >= a.low AND o.id < a.high
    OFFSET 0 -- each range by the index, never all objects
) AS l
WHERE right(l.id, length(a.tail)) = a.tail AND l.ended IS NULL;
