-- $1 site, $2 kind, $3 ids; between which positions all events of the objects stand
SELECT min(lives.first_position) AS first, max(lives.last_position) AS last
FROM pbscast_log.lives
WHERE lives.site = $1 AND lives.kind = $2 AND lives.id = ANY ($3);
