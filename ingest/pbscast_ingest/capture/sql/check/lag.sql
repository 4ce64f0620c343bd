-- What the log has yet to read: rows beyond its cursor and in the holes below it; counting stops at a million. And whether
-- the last row that it read is still there, as it was.
SELECT count(*) AS rows,
       extract(epoch FROM clock_timestamp() - min(unread.at))::float8 AS oldest_seconds,
       (SELECT j.xid FROM pbscast.journal AS j WHERE j.seq = %(top)s) AS witness_xid,
       (SELECT j.at FROM pbscast.journal AS j WHERE j.seq = %(top)s) AS witness_at
  FROM (SELECT j.at
          FROM pbscast.journal AS j
         WHERE j.seq > %(top)s
            OR EXISTS (SELECT FROM unnest(%(lows)s::bigint[], %(highs)s::bigint[]) AS hole (low, high)
                        WHERE j.seq BETWEEN hole.low AND hole.high)
         LIMIT 1000000) AS unread
