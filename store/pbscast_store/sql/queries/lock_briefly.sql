-- $1 milliseconds, until the transaction ends. Whoever asks for a lock after us waits behind us.
SELECT set_config('lock_timeout', $1::text, true);
