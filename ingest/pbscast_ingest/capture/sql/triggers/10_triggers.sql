-- The triggers come last, and in one statement with what goes with them: from here to COMMIT are the only
-- locks that PBS can feel. Waiting for them may take 0.15 s in all, then everything is given up; what follows
-- is a matter of milliseconds. A client that stalls before its COMMIT loses its session, and all is undone.
SET LOCAL statement_timeout = '500ms';

-- ALWAYS: sessions with session_replication_role = replica change rows as well.
DO $triggers$
DECLARE
    again  boolean := EXISTS (SELECT FROM pbscast.installation);
    was    text    := current_setting('pbscast.install_replaced');
    reader text    := current_setting('pbscast.install_reader');
    kinds  text[]  := ARRAY['job', 'queue', 'node', 'resv', 'server', 'scheduler'];
    locked text[]  := kinds || ARRAY(SELECT 'info'::text WHERE NOT has_table_privilege(reader, 'pbs.info', 'SELECT'));
    begun  timestamptz := clock_timestamp();
    found  text[];
    kind   text;
    item   record;
BEGIN
    SET LOCAL idle_in_transaction_session_timeout = '100ms';
    -- To drop a trigger of that name which is another takes a lock that every reader of the table holds off, a
    -- dump for hours: it is there at once, before anything is held, or PBS does not wait for it.
    SET LOCAL lock_timeout = '10ms';
    FOR item IN
        SELECT t.tgname AS name, c.relname AS kind
          FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid AND c.relnamespace = 'pbs'::regnamespace AND c.relname = ANY (kinds)
         WHERE (t.tgname = 'pbscast_row' AND (t.tgtype, t.tgfoid) <> (29, to_regprocedure(format('pbscast.%I()', 'capture_' || c.relname))))
            OR (t.tgname = 'pbscast_truncate' AND (t.tgtype, t.tgfoid) <> (32, to_regprocedure('pbscast.capture_truncate()')))
    LOOP
        EXECUTE format('DROP TRIGGER %I ON pbs.%I', item.name, item.kind);
    END LOOP;
    FOREACH kind IN ARRAY locked LOOP
        PERFORM set_config('lock_timeout', greatest(1, 150 - round(extract(epoch FROM clock_timestamp() - begun) * 1000))::integer || 'ms', true);
        EXECUTE format('LOCK TABLE pbs.%I IN SHARE ROW EXCLUSIVE MODE', kind);
    END LOOP;
    SET LOCAL lock_timeout = '100ms';
    found := ARRAY(SELECT d FROM pbscast.defects() AS d WHERE d LIKE 'pbs.%');
    FOREACH kind IN ARRAY kinds LOOP
        CONTINUE WHEN NOT EXISTS (SELECT FROM unnest(found) AS f WHERE f LIKE 'pbs.' || kind || ':%');
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = to_regclass('pbs.' || kind) AND tgname = 'pbscast_row') THEN
            EXECUTE format('CREATE TRIGGER pbscast_row AFTER INSERT OR UPDATE OR DELETE ON pbs.%I '
                           'FOR EACH ROW EXECUTE PROCEDURE pbscast.%I()', kind, 'capture_' || kind);
        END IF;
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = to_regclass('pbs.' || kind) AND tgname = 'pbscast_truncate') THEN
            EXECUTE format('CREATE TRIGGER pbscast_truncate AFTER TRUNCATE ON pbs.%I '
                           'FOR EACH STATEMENT EXECUTE PROCEDURE pbscast.capture_truncate()', kind);
        END IF;
        EXECUTE format('ALTER TABLE pbs.%I ENABLE ALWAYS TRIGGER pbscast_row, ENABLE ALWAYS TRIGGER pbscast_truncate', kind);
    END LOOP;
    -- A GRANT writes the same rows of the catalogue as PBS's TRUNCATE and ALTER, which would fail if they
    -- came upon it: so under the lock that these wait for, and only where it is needed.
    FOREACH kind IN ARRAY locked LOOP
        IF NOT has_table_privilege(reader, 'pbs.' || kind, 'SELECT') THEN
            EXECUTE format('GRANT SELECT ON pbs.%I TO %I', kind, reader);
        END IF;
    END LOOP;
    found := found || nullif(current_setting('pbscast.install_found'), '');
    IF again AND array_remove(found, NULL) <> '{}' THEN
        PERFORM pbscast.mark_gap('triggers', 'end', (SELECT at FROM pbscast.journal ORDER BY seq DESC LIMIT 1), ARRAY['found', array_to_string(found, '; ')]);
    END IF;
    -- Written each time, so that functions made anew by an installation are told, by their xmin, from others.
    INSERT INTO pbscast.installation AS i (version, script, site, reader, functions)
    VALUES (current_setting('pbscast.install_version')::integer, current_setting('pbscast.install_script'),
            current_setting('pbscast.install_site'), current_setting('pbscast.install_reader'), pbscast.functions())
    ON CONFLICT (one) DO UPDATE
       SET version = excluded.version, script = excluded.script, site = excluded.site, reader = excluded.reader,
           functions = excluded.functions, upgraded_at = clock_timestamp();
    -- Where nobody touched what the installation before left, that one's word stands.
    UPDATE pbscast.installation SET replaced = was WHERE shape IS DISTINCT FROM was;
    UPDATE pbscast.installation SET shape = pbscast.shape();
    -- A release that used nextval left a count that would jump in a crash. Nobody counts now.
    PERFORM setval('pbscast.gap_seq', last_value, is_called) FROM pbscast.gap_seq WHERE log_cnt > 0;
END
$triggers$;
