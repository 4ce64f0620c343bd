-- $1 seconds, $2 now by the clock of who signs (microseconds); the sites of which something was logged since their last checkpoint, if that is older, and its next number
SELECT
    site.name AS site, coalesce(last.number, 0) + 1 AS number, site.position, site.digest,
    pbscast_log.microseconds(site.logged) AS logged, site.chained_after
FROM pbscast_log.site
LEFT JOIN LATERAL (
    SELECT * FROM pbscast_log.checkpoint AS c WHERE c.site = site.name ORDER BY c.number DESC LIMIT 1
) AS last ON true
WHERE site.position > coalesce(last.position, 0)
  AND (last.signed IS NULL OR last.signed <= timestamptz 'epoch' + $2::bigint * interval '1 microsecond' - make_interval(secs => $1))
ORDER BY site.name;
