-- Removes everything that pbscast put into this datastore, also where parts are missing already.
BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL lock_timeout = '100ms';
SET LOCAL client_min_messages = warning;
SELECT pg_advisory_xact_lock(hashtext('pbscast'), hashtext('install'));

-- A client that stalls while it has the locks loses its session, and all is undone.
SET LOCAL idle_in_transaction_session_timeout = '500ms';
-- Within 0.15 s or not at all: while the locks are awaited, PBS waits behind them.
SET LOCAL statement_timeout = '150ms';
