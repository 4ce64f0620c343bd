-- Until the transaction ends: whoever waits for a lock holds up all who come after.
SET LOCAL lock_timeout = '1s';
