-- $1 site, $2 holder, $3 seconds; by this database's clock alone, so the workers' clocks may differ
UPDATE pbscast_log.site
SET epoch = epoch + 1, holder = $2, lease_expires = clock_timestamp() + make_interval(secs => $3)
WHERE name = $1 AND (holder IS NULL OR holder = $2 OR lease_expires < clock_timestamp())
RETURNING epoch, position, cursor;
