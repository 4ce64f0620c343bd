INSERT INTO pbscast_log.archive
    (site, first_position, last_position, previous, digest, earliest, latest, first_logged, last_logged, partition, manifest,
     thinnable)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);
