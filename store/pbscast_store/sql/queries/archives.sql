SELECT
    site, first_position, last_position, previous, digest, earliest, latest, first_logged, last_logged, partition, manifest,
    thinnable
FROM pbscast_log.archive
ORDER BY site, first_position;
