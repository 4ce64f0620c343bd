SELECT 'pbscast_log.new_event'::regtype::oid, 'pbscast_log.fold'::regtype::oid
