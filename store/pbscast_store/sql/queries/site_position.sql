SELECT position FROM pbscast_log.site WHERE name = $1;
