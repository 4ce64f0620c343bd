-- One statement, hence one snapshot: every visible row that was not read before, in seq order, at most %(rows)s of them
-- and, after the first, at most %(bytes)s bytes. cursor.py says why nothing can be skipped.
-- The first record is the header: the snapshot itself, the clock, the number of rows found and of changes that were lost,
-- and what tells that this is the journal the cursor speaks of: its installation, and the witness.
-- Where a seq beyond %(top)s was passed over, a transaction id is drawn, after the snapshot was taken: the bound of the hole.
-- A row travels as one JSON array, which is decoded much faster than five arrays of text; SQL_ASCII checks no bytes.
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
        seq, xid, at,
        json_build_array(op, kind, key, created, columns, changed, before, removed, context)::text AS body
    FROM unread
    ORDER BY seq
    LIMIT %(rows)s
),
sized AS (
    SELECT *, sum(octet_length(body)) OVER (ORDER BY seq) AS bytes, row_number() OVER (ORDER BY seq) AS place
    FROM page
)
SELECT
    0::bigint AS seq, 0::bigint AS xid, statement_timestamp() AS at,
    json_build_array(
        txid_snapshot_xmin(s),
        CASE
            WHEN (SELECT max(seq) - %(top)s <> count(*) FROM page WHERE seq > %(top)s) THEN txid_current()
        END,
        (SELECT count(*) FROM page),
        CASE WHEN g.is_called THEN g.last_value ELSE 0 END,
        i.incarnation,
        %(top)s = 0 OR EXISTS (SELECT FROM pbscast.journal WHERE seq = %(top)s)
    )::text AS body
FROM txid_current_snapshot() AS s, pbscast.gap_seq AS g, pbscast.installation AS i
UNION ALL
SELECT seq, xid, at, body
FROM sized
WHERE place = 1 OR bytes <= %(bytes)s
ORDER BY seq
