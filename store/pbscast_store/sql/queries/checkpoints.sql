-- $1 site, or null for all
SELECT
    site, number, position, digest, pbscast_log.microseconds(logged) AS logged, chained_after,
    pbscast_log.microseconds(signed) AS signed, key_id, signature
FROM pbscast_log.checkpoint
WHERE $1::text IS NULL OR site = $1
ORDER BY site, number;
