-- $1 site, $2 its last position; of the events that no page holds, the first
SELECT min(position) FROM pbscast_log.event WHERE site = $1 AND (position < 1 OR position > $2);
