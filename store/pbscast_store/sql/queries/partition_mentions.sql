-- $1 site, $2 lower and $3 upper bound of a partition; in the order of the index event_history
SELECT
    e.id, e.kind, e.position, e."time", e.logged, e.incarnation, e.revision, e.event, octet_length(e.payload)::bigint AS bytes
FROM pbscast_log.event AS e
WHERE e.site = $1 AND e.logged >= coalesce($2::timestamptz, '-infinity') AND e.logged < $3
ORDER BY e.id, e.kind, e.position;
