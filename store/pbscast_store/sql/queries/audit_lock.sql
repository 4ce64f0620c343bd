-- Before the snapshot is taken: else a partition might be archived and dropped between it and the first look.
LOCK TABLE pbscast_log.event IN ACCESS SHARE MODE;
