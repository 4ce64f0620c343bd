-- $1 site, $2 first position of an archive
INSERT INTO pbscast_log.thinning (site, first_position) VALUES ($1, $2) ON CONFLICT DO NOTHING;
