-- $1 site, or null for all
SELECT
    site, number, position, digest, (extract(epoch FROM logged) * 1000000)::bigint AS logged, chained_after,
    (extract(epoch FROM signed) * 1000000)::bigint AS signed, key_id, signature
FROM pbscast_log.checkpoint
WHERE $1::text IS NULL OR site = $1
ORDER BY site, number;
