-- Read rows go in small steps. The ranges begin where the step before ended: index entries of rows that are gone, and
-- cannot be cleaned up while somebody's long transaction might see them, are not met again.
DELETE FROM pbscast.journal
WHERE seq IN (
    SELECT found.seq
    FROM unnest(%(lows)s::bigint[], %(highs)s::bigint[]) AS untrimmed (low, high)
    CROSS JOIN LATERAL (
        SELECT seq
        FROM pbscast.journal
        WHERE seq BETWEEN untrimmed.low AND untrimmed.high
        ORDER BY seq
        LIMIT %(rows)s
    ) AS found
    ORDER BY found.seq
    LIMIT %(rows)s
)
RETURNING seq
