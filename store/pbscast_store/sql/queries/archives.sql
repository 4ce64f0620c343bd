SELECT site, first_position, last_position, previous, digest, earliest, latest, last_logged, manifest, thinnable
FROM pbscast_log.archive
ORDER BY site, first_position;
