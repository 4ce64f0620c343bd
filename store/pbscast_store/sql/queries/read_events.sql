-- $1 site, $2 after, $3 limit, $4 payload bytes, $5 from when and $6 to when they were logged; at least one row if there is one
SELECT site, position, "time", kind, id, incarnation, revision, event, provenance, owner, payload, logged, digest
FROM (
    SELECT *, sum(octet_length(payload)) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) AS bytes
    FROM (
        SELECT *
        FROM pbscast_log.event
        WHERE site = $1 AND position > $2 AND logged >= $5 AND logged < $6
        ORDER BY position
        LIMIT $3
    ) AS page
) AS measured
WHERE bytes <= $4 OR bytes = octet_length(payload)
ORDER BY position;
