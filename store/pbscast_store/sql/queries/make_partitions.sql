-- $1 how far ahead
SELECT pbscast_log.make_partitions($1);
