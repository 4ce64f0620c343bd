SELECT to_regclass('pbscast_log.migration') IS NOT NULL;
