-- The owner of everything below can not log in and is nobody's member; the reader can, and has the
-- rights granted at the end of this script. Roles belong to the whole cluster: another database's
-- install may make them at the same moment.
DO $roles$
DECLARE
    reader text := current_setting('pbscast.install_reader');
    item   record;
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
        END IF;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
    IF EXISTS (SELECT FROM pg_catalog.pg_roles
                WHERE rolname = reader AND shobj_description(oid, 'pg_authid') = 'made by pbscast') THEN
        EXECUTE format('ALTER ROLE %I CONNECTION LIMIT 20', reader);
        -- A reader stuck in an open transaction would hold back vacuum and the notification queue; one
        -- whose machine is gone should not stay for the hours that the kernel would wait.
        FOR item IN SELECT * FROM (VALUES ('idle_in_transaction_session_timeout', '60s'), ('statement_timeout', '120s'),
                                          ('tcp_keepalives_idle', '30'), ('tcp_keepalives_interval', '10'),
                                          ('tcp_keepalives_count', '3')) AS t (name, value)
        LOOP
            EXECUTE format('ALTER ROLE %I SET %I = %L', reader, item.name, item.value);
        END LOOP;
    END IF;
END
$roles$;
