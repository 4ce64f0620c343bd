-- What one journal row says, as arrays whose bytes travel as they are, unless it is more than %(bytes)s bytes. An array joined to an empty one is itself, unpacked: its size is known without a copy.
SELECT
    is_small,
    CASE WHEN is_small THEN columns END AS columns,
    CASE WHEN is_small THEN changed END AS changed,
    CASE WHEN is_small THEN before END AS before,
    CASE WHEN is_small THEN removed END AS removed,
    CASE WHEN is_small THEN context END AS context
FROM (
    SELECT
        *,
        pg_column_size(columns || '{}'::text[])::bigint + pg_column_size(changed || '{}'::text[])
            + pg_column_size(before || '{}'::text[]) + pg_column_size(removed || '{}'::text[])
            + coalesce(pg_column_size(context || '{}'::text[]), 0) <= %(bytes)s AS is_small
    FROM pbscast.journal
    WHERE seq = %(seq)s
    OFFSET 0
) AS sized
