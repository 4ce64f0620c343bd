-- Rights: nothing to PUBLIC, the reader reads the journal and trims it. Those on PBS's tables come last.
DO $rights$
DECLARE
    reader text := current_setting('pbscast.install_reader');
    place  text := current_setting('pbscast.install_hstore');
    item   record;
BEGIN
    FOR item IN SELECT p.oid::regprocedure AS name FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'pbscast'::regnamespace LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO pbscast_owner', item.name);
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', item.name);
    END LOOP;
    GRANT ALL ON SCHEMA pbscast TO pbscast_owner;
    GRANT ALL ON ALL TABLES IN SCHEMA pbscast TO pbscast_owner;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA pbscast TO pbscast_owner;
    GRANT ALL ON ALL FUNCTIONS IN SCHEMA pbscast TO pbscast_owner;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO pbscast_owner', place);
    EXECUTE format('GRANT USAGE ON SCHEMA pbscast, pbs, %I TO %I', place, reader);
    EXECUTE format('GRANT SELECT, DELETE ON pbscast.journal TO %I', reader);
    EXECUTE format('GRANT SELECT ON pbscast.installation, pbscast.control, pbscast.journal_seq, pbscast.gap_seq TO %I', reader);
    EXECUTE format('GRANT EXECUTE ON FUNCTION pbscast.identity(), pbscast.mode(), pbscast.cap(), pbscast.is_full(), pbscast.functions(), pbscast.missing_rights(), pbscast.defects(), pbscast.heartbeat() TO %I', reader);
END
$rights$;
