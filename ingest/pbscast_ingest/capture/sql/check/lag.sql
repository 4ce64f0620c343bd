-- What the log has yet to read: rows beyond its cursor and in the holes below it; counting stops at 100,000. And whether
-- the last row that it read is still there, as it was.
SELECT count(*) AS rows,
       extract(epoch FROM clock_timestamp() - min(unread.at))::float8 AS oldest_seconds,
       (SELECT j.xid FROM pbscast.journal AS j WHERE j.seq = %(top)s) AS witness_xid,
       (SELECT j.at FROM pbscast.journal AS j WHERE j.seq = %(top)s) AS witness_at
  FROM ((SELECT found.at
           FROM unnest(%(lows)s::bigint[], %(highs)s::bigint[]) AS hole (low, high)
          CROSS JOIN LATERAL (SELECT j.at FROM pbscast.journal AS j
                               WHERE j.seq BETWEEN hole.low AND hole.high ORDER BY j.seq LIMIT 100000) AS found
          LIMIT 100000)
        UNION ALL
        (SELECT j.at FROM pbscast.journal AS j WHERE j.seq > %(top)s ORDER BY j.seq LIMIT 100000)) AS unread
