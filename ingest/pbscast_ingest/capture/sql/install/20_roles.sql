-- The owner of everything below can not log in and is nobody's member; the reader can, and has the
-- rights granted at the end of this script. Roles belong to the whole cluster: another database's
-- install may make them at the same moment.
DO $roles$
DECLARE
    reader text := current_setting('pbscast.install_reader');
BEGIN
    BEGIN
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'pbscast_owner') THEN
            CREATE ROLE pbscast_owner NOLOGIN;
        END IF;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
    BEGIN
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = reader) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', reader);
            EXECUTE format('COMMENT ON ROLE %I IS ''made by pbscast''', reader);
            -- A reader stuck in an open transaction would hold back vacuum and the notification queue.
            EXECUTE format('ALTER ROLE %I SET idle_in_transaction_session_timeout = ''60s''', reader);
        END IF;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
END
$roles$;
