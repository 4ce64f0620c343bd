SELECT coalesce(max(number), 0) FROM pbscast_log.migration;
