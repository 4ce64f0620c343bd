DO $uninstall$
DECLARE
    tables text := (SELECT string_agg(DISTINCT t.tgrelid::regclass::text, ', ')
                      FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
                     WHERE p.pronamespace = to_regnamespace('pbscast'));
    reader text;
    item   record;
BEGIN
    -- A client that stalls while it has the locks loses its session, and all is undone.
    SET LOCAL idle_in_transaction_session_timeout = '100ms';
    IF tables IS NOT NULL THEN
        EXECUTE 'LOCK TABLE ' || tables || ' IN ACCESS EXCLUSIVE MODE';
    END IF;
    IF to_regclass('pbscast.journal') IS NOT NULL THEN
        LOCK TABLE pbscast.journal IN ACCESS EXCLUSIVE MODE NOWAIT;
    END IF;
    FOR item IN
        SELECT t.tgname AS name, t.tgrelid::regclass AS home
          FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
         WHERE p.pronamespace = to_regnamespace('pbscast')
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', item.name, item.home);
    END LOOP;
    IF to_regclass('pbscast.installation') IS NOT NULL THEN
        SELECT i.reader INTO reader FROM pbscast.installation i;
    END IF;
    DROP SCHEMA IF EXISTS pbscast CASCADE;
    PERFORM set_config('pbscast.uninstall_reader', coalesce(reader, ''), true);
END
$uninstall$;
