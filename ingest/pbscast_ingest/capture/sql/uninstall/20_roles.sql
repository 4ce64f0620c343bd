-- The roles go unless another database of this cluster still uses them; a reader that was there before
-- pbscast only loses the rights given to it. Where nothing says any more which the reader was, it is one that
-- pbscast made and that has rights in this database; other installations' readers are left alone.
DO $roles$
DECLARE
    reader text;
    place  text;
BEGIN
    FOR reader IN
        SELECT rolname FROM pg_catalog.pg_roles
         WHERE rolname = current_setting('pbscast.uninstall_reader')
            OR (current_setting('pbscast.uninstall_reader') = '' AND shobj_description(oid, 'pg_authid') = 'made by pbscast'
                AND EXISTS (SELECT FROM pg_catalog.pg_shdepend d
                             WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.refobjid = pg_roles.oid
                               AND d.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())))
    LOOP
        FOR place IN SELECT nspname FROM pg_catalog.pg_namespace
                      WHERE nspname = 'pbs' OR oid IN (SELECT extnamespace FROM pg_catalog.pg_extension WHERE extname = 'hstore')
        LOOP
            EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %I', place, reader);
        END LOOP;
        IF to_regnamespace('pbs') IS NOT NULL THEN
            EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA pbs FROM %I', reader);
        END IF;
        IF EXISTS (SELECT FROM pg_catalog.pg_roles
                    WHERE rolname = reader AND shobj_description(oid, 'pg_authid') = 'made by pbscast') THEN
            BEGIN
                EXECUTE format('DROP ROLE %I', reader);
            EXCEPTION WHEN dependent_objects_still_exist OR object_in_use THEN NULL;
            END;
        END IF;
    END LOOP;
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'pbscast_owner') THEN
        DROP OWNED BY pbscast_owner;
        BEGIN
            DROP ROLE pbscast_owner;
        EXCEPTION WHEN dependent_objects_still_exist OR object_in_use THEN NULL;
        END;
    END IF;
END
$roles$;
COMMIT;
