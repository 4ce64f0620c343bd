-- Read rows go in small steps; the index range makes each step as cheap as the last whatever was trimmed before.
-- What lies in a hole has yet to be read.
DELETE FROM pbscast.journal
WHERE seq IN (
    SELECT seq
    FROM pbscast.journal
    WHERE
        seq >= %(low)s AND seq < %(top)s
        AND NOT EXISTS (
            SELECT FROM unnest(%(lows)s::bigint[], %(highs)s::bigint[]) AS hole (low, high)
            WHERE seq BETWEEN hole.low AND hole.high
        )
    ORDER BY seq
    LIMIT %(rows)s
)
RETURNING seq
