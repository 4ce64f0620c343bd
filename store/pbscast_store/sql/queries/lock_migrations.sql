-- One migration of this log at a time. Others read the table meanwhile; a lock that any role can take would not do.
LOCK TABLE pbscast_log.migration IN EXCLUSIVE MODE;
