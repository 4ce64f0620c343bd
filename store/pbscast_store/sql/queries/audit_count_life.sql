-- $1 site
SELECT count(*) FROM pbscast_log.life WHERE site = $1;
