INSERT INTO pbscast_log.migration (number, name) VALUES ($1, $2);
