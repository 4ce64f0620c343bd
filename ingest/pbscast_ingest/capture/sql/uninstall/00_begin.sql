-- Removes everything that pbscast put into this datastore, also where parts are missing already.
BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL lock_timeout = '100ms';
SET LOCAL client_min_messages = warning;
SELECT pg_advisory_xact_lock(hashtext('pbscast'), hashtext('install'));

-- A client that stalls is thrown out: an installation waits for a removal that has begun.
SET LOCAL idle_in_transaction_session_timeout = '10s';
-- Within 0.15 s or not at all: while the locks are awaited, PBS waits behind them.
SET LOCAL statement_timeout = '150ms';
