-- $1 site, $2 epoch
UPDATE pbscast_log.site SET holder = NULL, lease_expires = NULL WHERE name = $1 AND epoch = $2;
