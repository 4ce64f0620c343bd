SELECT
    a.site, a.first_position, a.last_position, a.previous, a.digest, a.earliest, a.latest, a.first_logged, a.last_logged,
    a.partition, a.manifest, a.thinnable, t.site IS NOT NULL AS may_be_thinned
FROM pbscast_log.archive AS a
LEFT JOIN pbscast_log.thinning AS t USING (site, first_position)
ORDER BY a.site, a.first_position;
