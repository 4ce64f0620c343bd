SELECT pbscast_log.drop_archived_partition($1);
