SET LOCAL statement_timeout = '500ms';

-- ALWAYS: sessions with session_replication_role = replica change rows as well.
DO $triggers$
DECLARE
    again boolean := EXISTS (SELECT FROM pbscast.installation);
    found text[]  := ARRAY(SELECT pbscast.defects());
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
    IF again AND found <> '{}' THEN
        PERFORM pbscast.mark_gap('triggers', 'end', (SELECT at FROM pbscast.journal ORDER BY seq DESC LIMIT 1), ARRAY['found', array_to_string(found, '; ')]);
    END IF;
END
$triggers$;

INSERT INTO pbscast.installation AS i (version, script, site, reader)
VALUES (current_setting('pbscast.install_version')::integer, current_setting('pbscast.install_script'),
        current_setting('pbscast.install_site'), current_setting('pbscast.install_reader'))
ON CONFLICT (one) DO UPDATE
   SET version = excluded.version, script = excluded.script, site = excluded.site, reader = excluded.reader,
       upgraded_at = clock_timestamp()
 WHERE (i.version, i.script, i.site, i.reader) IS DISTINCT FROM (excluded.version, excluded.script, excluded.site, excluded.reader);
