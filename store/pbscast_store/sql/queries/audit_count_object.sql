-- $1 site
SELECT count(*) FROM pbscast_log.object WHERE site = $1;
