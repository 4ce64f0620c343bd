-- $1 site, $2 epoch, $3 seconds
UPDATE pbscast_log.site
SET lease_expires = clock_timestamp() + make_interval(secs => $3)
WHERE name = $1 AND epoch = $2
RETURNING clock_timestamp();
