-- $1 site, $2 kind, $3 the first id, $4 how many
SELECT id
FROM pbscast_log.object
WHERE site = $1 AND kind = $2 AND NOT gone AND id >= $3
ORDER BY id
LIMIT $4;
