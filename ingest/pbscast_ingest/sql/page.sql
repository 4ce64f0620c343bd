-- One statement, hence one snapshot: every visible row that was not read before, in seq order, at most %(rows)s of them
-- and, after the first, at most %(bytes)s bytes. cursor.py says why nothing can be skipped.
-- The first record is the header: the snapshot itself, the clock, the numbers of rows found and unpacked, of changes that were lost,
-- whether the first row is a lone one, and what tells that this is the journal the cursor speaks of: its installation, and the witness.
-- Where a seq beyond %(top)s was passed over, a transaction id is drawn, after the snapshot was taken: the bound of the hole.
-- A row travels as one JSON array, which is decoded much faster than five arrays of text; SQL_ASCII checks no bytes.
-- The rows are chosen by what they weigh as they are stored, which is known without unpacking them, and unpacked one by
-- one: only numbers are sorted or kept, so nothing goes to temporary files. (No WITH for these: before 12 it is kept.)
-- A row that weighs more than %(lone)s ends the page before it, or is the only one of its page, which then holds its head alone: what
-- it says is asked for by itself (row.sql), for in JSON a byte may become six, at a tenth of a microsecond each.
WITH unread AS (
    (
        SELECT found.*
        FROM unnest(%(lows)s::bigint[], %(highs)s::bigint[]) AS hole (low, high)
        CROSS JOIN LATERAL (
            SELECT
                seq, xid, at,
                pg_column_size(columns)::bigint + pg_column_size(changed) + pg_column_size(before) + pg_column_size(removed)
                    + coalesce(pg_column_size(context), 0) AS weight
            FROM pbscast.journal
            WHERE seq BETWEEN hole.low AND hole.high
            ORDER BY seq
            LIMIT %(rows)s
        ) AS found
    )
    UNION ALL
    (
        SELECT
            seq, xid, at,
            pg_column_size(columns)::bigint + pg_column_size(changed) + pg_column_size(before) + pg_column_size(removed)
                + coalesce(pg_column_size(context), 0) AS weight
        FROM pbscast.journal
        WHERE seq > %(top)s
        ORDER BY seq
        LIMIT %(rows)s
    )
),
page AS (
    SELECT
        *, weight > %(lone)s AS is_lone,
        sum(CASE WHEN weight > %(lone)s THEN weight + %(stored)s ELSE weight END) OVER (ORDER BY seq) AS stored,
        row_number() OVER (ORDER BY seq) AS place
    FROM (SELECT * FROM unread ORDER BY seq LIMIT %(rows)s) AS nearest
)
SELECT
    0::bigint AS seq, 0::bigint AS xid, statement_timestamp() AS at,
    json_build_array(
        txid_snapshot_xmin(s),
        CASE
            WHEN (SELECT max(seq) - %(top)s <> count(*) FROM page WHERE seq > %(top)s) THEN txid_current()
        END,
        (SELECT count(*) FROM page),
        (SELECT count(*) FROM page WHERE place = 1 OR stored <= %(stored)s),
        CASE WHEN g.is_called THEN g.last_value ELSE 0 END,
        i.incarnation,
        (SELECT is_lone FROM page WHERE place = 1),
        %(top)s = 0 OR EXISTS (SELECT FROM pbscast.journal WHERE seq = %(top)s)
    )::text AS body
FROM txid_current_snapshot() AS s, pbscast.gap_seq AS g, pbscast.installation AS i
UNION ALL
SELECT seq, xid, at, body
FROM (
    SELECT *, sum(octet_length(body)) OVER (ORDER BY seq ROWS UNBOUNDED PRECEDING) AS bytes
    FROM (
        SELECT
            seq, xid, at, place,
            (
                SELECT
                    CASE
                        WHEN chosen.is_lone THEN json_build_array(op, kind, key, created)
                        ELSE json_build_array(op, kind, key, created, columns, changed, before, removed, context)
                    END::text
                FROM pbscast.journal AS j
                WHERE j.seq = chosen.seq
            ) AS body
        FROM (
            SELECT *
            FROM page
            WHERE place = 1 OR stored <= %(stored)s
            ORDER BY seq
            OFFSET 0
        ) AS chosen
        ORDER BY seq
        OFFSET 0
    ) AS unpacked
) AS sized
WHERE place = 1 OR bytes <= %(bytes)s
