INSERT INTO pbscast_log.site (name) VALUES ($1) ON CONFLICT (name) DO NOTHING;
