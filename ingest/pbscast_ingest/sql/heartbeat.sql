-- The row is read as soon as it is visible and then is the witness: it must not be lost by a crash.
SELECT set_config('synchronous_commit', 'on', true), pbscast.heartbeat()
