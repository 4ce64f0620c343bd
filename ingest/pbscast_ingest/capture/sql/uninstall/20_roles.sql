-- The roles go unless another database of this cluster still uses them; a reader that was there before
-- pbscast only loses the rights given to it. Where nothing says any more which the reader was, it is one that
-- pbscast made and that has rights in this database; other installations' readers are left alone.
DO $roles$
DECLARE
    reader text;
    place  text;
    item   record;
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
        -- A REVOKE writes the same rows of the catalogue as PBS's TRUNCATE and ALTER, which would fail if they
        -- came upon it: so under the lock that these wait for, and only where there is something to take.
        -- Those with triggers are locked already; NOWAIT would fail there as soon as a save waits.
        SET LOCAL lock_timeout = '10ms';
        FOR item IN
            SELECT DISTINCT c.oid::regclass AS name, c.relkind AS kind
              FROM pg_catalog.pg_shdepend d JOIN pg_catalog.pg_class c ON c.oid = d.objid
             WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype = 'a'
               AND d.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
               AND d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.refobjid = to_regrole(quote_ident(reader))
               AND c.relnamespace = to_regnamespace('pbs')
        LOOP
            IF item.kind IN ('r', 'p') THEN
                EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', item.name);
            END IF;
            EXECUTE format('REVOKE ALL ON %s FROM %I', item.name, reader);
        END LOOP;
        SET LOCAL lock_timeout = '100ms';
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
