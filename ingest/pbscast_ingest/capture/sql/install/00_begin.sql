BEGIN;
-- A superuser runs this: nobody else's functions, wherever its search_path leads.
SET LOCAL search_path = pg_catalog, pg_temp;
-- Nothing here may keep PBS waiting: a lock that is not free at once makes the whole script fail and
-- leaves everything as it was; run it again then.
SET LOCAL lock_timeout = '100ms';
SET LOCAL client_min_messages = warning;
-- A client that stalls is thrown out: the kill switch waits for an installation that has begun.
SET LOCAL idle_in_transaction_session_timeout = '10s';
-- One install, upgrade or uninstall at a time.
SELECT pg_advisory_xact_lock(hashtext('pbscast'), hashtext('install'));
