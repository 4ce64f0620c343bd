-- One statement, hence one snapshot: every visible row that was not read before, in seq order, at most %(rows)s of them
-- and, after the first, at most %(bytes)s bytes. cursor.py says why nothing can be skipped.
-- The first record is the header: the snapshot itself, the clock and the number of changes that could not be journaled.
-- Small arrays are never compressed, so pg_column_size is their size; only large ones are unpacked to be measured.
WITH unread AS (
    (
        SELECT found.*
        FROM unnest(%(lows)s::bigint[], %(highs)s::bigint[]) AS hole (low, high)
        CROSS JOIN LATERAL (
            SELECT * FROM pbscast.journal WHERE seq BETWEEN hole.low AND hole.high ORDER BY seq LIMIT %(rows)s
        ) AS found
    )
    UNION ALL
    (SELECT * FROM pbscast.journal WHERE seq > %(top)s ORDER BY seq LIMIT %(rows)s)
),
page AS (
    SELECT
        seq, xid, at, op, kind, key, created, columns, changed, before, removed, context,
        sum(
            CASE WHEN pg_column_size(changed) >= 1000 THEN octet_length(array_to_string(changed, ''))
            ELSE coalesce(pg_column_size(changed), 0) END
            + CASE WHEN pg_column_size(before) >= 1000 THEN octet_length(array_to_string(before, ''))
            ELSE coalesce(pg_column_size(before), 0) END
        ) OVER (ORDER BY seq) AS bytes,
        row_number() OVER (ORDER BY seq) AS place
    FROM (SELECT * FROM unread ORDER BY seq LIMIT %(rows)s) AS first
)
SELECT
    0::bigint AS seq, 0::bigint AS xid, statement_timestamp() AS at, 'S'::"char" AS op, ''::text AS kind,
    txid_snapshot_xmin(s)::text AS key, txid_snapshot_xmax(s)::text AS created,
    ARRAY[(SELECT count(*) FROM page)::text, (CASE WHEN g.is_called THEN g.last_value ELSE 0 END)::text] AS columns,
    NULL::text[] AS changed, NULL::text[] AS before, NULL::text[] AS removed, NULL::text[] AS context
FROM txid_current_snapshot() AS s, pbscast.gap_seq AS g
UNION ALL
SELECT seq, xid, at, op, kind, key, created, columns, changed, before, removed, context
FROM page
WHERE place = 1 OR bytes <= %(bytes)s
ORDER BY seq
