-- $1 sites, $2 positions, $3 when each was logged: which tells the partition; in the order given
SELECT
    e.site, e.position, e."time", e.kind, e.id, e.incarnation, e.revision, e.event, e.provenance, e.owner, e.payload, e.logged,
    e.digest
FROM unnest($1::text[], $2::bigint[], $3::timestamptz[]) WITH ORDINALITY AS place (site, position, logged, number)
CROSS JOIN LATERAL (
    SELECT *
    FROM pbscast_log.event AS e
    WHERE e.site = place.site AND e.position = place.position AND e.logged = place.logged
    LIMIT 1
) AS e
ORDER BY place.number;
