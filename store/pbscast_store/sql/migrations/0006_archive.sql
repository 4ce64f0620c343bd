-- What has left PostgreSQL: the events of whole partitions, in Parquet files below the archive directory.
-- Archived events of a site are its first ones, without gaps, so positions tell where an event is.

CREATE TABLE pbscast_log.archive (
    site           text COLLATE "C" NOT NULL REFERENCES pbscast_log.site (name),
    first_position bigint NOT NULL,
    last_position  bigint NOT NULL CHECK (last_position >= first_position),
    previous       bytea NOT NULL,
    digest         bytea NOT NULL,
    earliest       timestamptz NOT NULL,
    latest         timestamptz NOT NULL,
    first_logged   timestamptz NOT NULL,
    last_logged    timestamptz NOT NULL,
    partition      text COLLATE "C" NOT NULL,
    manifest       text COLLATE "C" NOT NULL,
    thinnable      bytea NOT NULL,
    registered     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (site, first_position)
);
COMMENT ON TABLE pbscast_log.archive IS 'Which events are no longer in event, and where. A row is made in the transaction that drops the partition.';
COMMENT ON COLUMN pbscast_log.archive.previous IS 'The chain''s digest before the first event, zeros before the chain began.';
COMMENT ON COLUMN pbscast_log.archive.digest IS 'The chain''s digest after the last event.';
COMMENT ON COLUMN pbscast_log.archive.earliest IS 'The least time of an event; latest is the greatest.';
COMMENT ON COLUMN pbscast_log.archive.partition IS 'That these events were in.';
COMMENT ON COLUMN pbscast_log.archive.manifest IS 'Path of the manifest below the archive directory.';
COMMENT ON COLUMN pbscast_log.archive.thinnable IS 'SHA-256 of the positions whose payload may be thinned out, in decimal, a newline after each.';

CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON pbscast_log.archive
    FOR EACH STATEMENT EXECUTE FUNCTION pbscast_log.refuse_change();

-- The only way in which events leave. The partition's owner alone may call it with effect. It looks for events that were not
-- archived after DETACH has taken its locks, so nobody can have added one since. Whose events they are the partition says, not
-- the table of sites: a row of a site that is not there is evidence. An archive has all positions from its first to its last,
-- a partition each of them once; so it is enough to look at both ends.

CREATE FUNCTION pbscast_log.drop_archived_partition(partition name) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    lost text;
BEGIN
    EXECUTE format('ALTER TABLE pbscast_log.event DETACH PARTITION pbscast_log.%I', partition);
    EXECUTE format(
        'WITH RECURSIVE held (site) AS ('
        '    SELECT min(site) FROM pbscast_log.%1$I'
        '    UNION ALL'
        '    SELECT (SELECT min(e.site) FROM pbscast_log.%1$I AS e WHERE e.site > held.site) FROM held WHERE held.site IS NOT NULL'
        ')'
        'SELECT held.site FROM held LEFT JOIN pbscast_log.archive AS a ON a.site = held.site AND a.partition = $1 '
        'WHERE held.site IS NOT NULL AND ('
        '    a.site IS NULL'
        '    OR EXISTS (SELECT FROM pbscast_log.%1$I AS e WHERE e.site = held.site AND e.position < a.first_position)'
        '    OR EXISTS (SELECT FROM pbscast_log.%1$I AS e WHERE e.site = held.site AND e.position > a.last_position)'
        ') LIMIT 1',
        partition
    ) INTO lost USING partition::text;
    IF lost IS NOT NULL THEN
        RAISE EXCEPTION 'partition % holds events of site % that are in no archive', partition, lost
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    EXECUTE format('DROP TABLE pbscast_log.%I', partition);
END
$$;
REVOKE EXECUTE ON FUNCTION pbscast_log.drop_archived_partition(name) FROM PUBLIC;

SELECT pbscast_log.grant_again();
