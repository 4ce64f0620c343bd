-- $1 site, $2 after, $3 up to: where its events have to be; the first that is elsewhere
SELECT least(
    (SELECT min(position) FROM pbscast_log.event WHERE site = $1 AND position <= $2),
    (SELECT min(position) FROM pbscast_log.event WHERE site = $1 AND position > $3)
);
