SET LOCAL statement_timeout = '500ms';

-- ALWAYS: sessions with session_replication_role = replica change rows as well.
DO $triggers$
DECLARE
    again boolean := EXISTS (SELECT FROM pbscast.installation);
    found text[]  := ARRAY(SELECT d FROM pbscast.defects() AS d WHERE d LIKE 'pbs.%');
    kind  text;
BEGIN
    FOREACH kind IN ARRAY ARRAY['job', 'queue', 'node', 'resv', 'server', 'scheduler'] LOOP
        CONTINUE WHEN NOT EXISTS (SELECT FROM unnest(found) AS f WHERE f LIKE 'pbs.' || kind || ':%');
        EXECUTE format('DROP TRIGGER IF EXISTS pbscast_row ON pbs.%I', kind);
        EXECUTE format('DROP TRIGGER IF EXISTS pbscast_truncate ON pbs.%I', kind);
        EXECUTE format('CREATE TRIGGER pbscast_row AFTER INSERT OR UPDATE OR DELETE ON pbs.%I '
                       'FOR EACH ROW EXECUTE PROCEDURE pbscast.%I()', kind, 'capture_' || kind);
        EXECUTE format('CREATE TRIGGER pbscast_truncate AFTER TRUNCATE ON pbs.%I '
                       'FOR EACH STATEMENT EXECUTE PROCEDURE pbscast.capture_truncate()', kind);
        EXECUTE format('ALTER TABLE pbs.%I ENABLE ALWAYS TRIGGER pbscast_row, ENABLE ALWAYS TRIGGER pbscast_truncate', kind);
    END LOOP;
    found := found || nullif(current_setting('pbscast.install_found'), '');
    IF again AND array_remove(found, NULL) <> '{}' THEN
        PERFORM pbscast.mark_gap('triggers', 'end', (SELECT at FROM pbscast.journal ORDER BY seq DESC LIMIT 1), ARRAY['found', array_to_string(found, '; ')]);
    END IF;
END
$triggers$;

-- Written each time, so that functions made anew by an installation are told, by their xmin, from others.
INSERT INTO pbscast.installation AS i (version, script, site, reader, functions)
VALUES (current_setting('pbscast.install_version')::integer, current_setting('pbscast.install_script'),
        current_setting('pbscast.install_site'), current_setting('pbscast.install_reader'), pbscast.functions())
ON CONFLICT (one) DO UPDATE
   SET version = excluded.version, script = excluded.script, site = excluded.site, reader = excluded.reader,
       functions = excluded.functions, upgraded_at = clock_timestamp();
