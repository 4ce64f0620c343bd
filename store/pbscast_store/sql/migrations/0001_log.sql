-- The event log, the projection and the leases of every site.
-- Text is compared as bytes (COLLATE "C"): names know no language, and the ids of an array and its
-- subjobs are then one range of an index.

CREATE TABLE pbscast_log.site (
    name          text COLLATE "C" PRIMARY KEY CHECK (name <> ''),
    position      bigint NOT NULL DEFAULT 0,
    logged        timestamptz NOT NULL DEFAULT clock_timestamp(),
    cursor        jsonb,
    epoch         bigint NOT NULL DEFAULT 0,
    holder        text COLLATE "C",
    lease_expires timestamptz
) WITH (fillfactor = 10);
COMMENT ON TABLE pbscast_log.site IS 'How far the log of each site goes, and who may write it.';
COMMENT ON COLUMN pbscast_log.site.position IS 'Position of the last event, 0 before the first.';
COMMENT ON COLUMN pbscast_log.site.logged IS 'When the last event was logged; never goes back.';
COMMENT ON COLUMN pbscast_log.site.cursor IS 'How far ingest has read the journal; moves in one transaction with the events.';
COMMENT ON COLUMN pbscast_log.site.epoch IS 'Grows with each lease; an append under an older epoch is refused.';

CREATE TABLE pbscast_log.event (
    position    bigint NOT NULL,
    "time"      timestamptz NOT NULL,
    logged      timestamptz NOT NULL,
    incarnation integer NOT NULL,
    revision    integer NOT NULL,
    site        text COLLATE "C" NOT NULL,
    kind        text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    event       text COLLATE "C" NOT NULL,
    provenance  text COLLATE "C" NOT NULL,
    owner       text COLLATE "C",
    payload     text COLLATE "C" NOT NULL,
    PRIMARY KEY (site, position)
);
CREATE INDEX event_history ON pbscast_log.event (id, kind, site, position);
COMMENT ON TABLE pbscast_log.event IS 'The log. A row is never changed.';
COMMENT ON COLUMN pbscast_log.event."time" IS 'When it happened, by the clock of the PBS datastore.';
COMMENT ON COLUMN pbscast_log.event.logged IS 'When it was logged, by the clock of this database; never goes back along the positions of a site.';
COMMENT ON COLUMN pbscast_log.event.payload IS 'What the event says beyond its header: the JSON text as it was first written.';

CREATE TABLE pbscast_log.object (
    position    bigint NOT NULL,
    incarnation integer NOT NULL,
    revision    integer NOT NULL,
    substate    integer,
    finalized   boolean NOT NULL,
    gone        boolean NOT NULL,
    site        text COLLATE "C" NOT NULL,
    kind        text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    born        text COLLATE "C",
    owner       text COLLATE "C",
    queue       text COLLATE "C",
    project     text COLLATE "C",
    name        text COLLATE "C",
    state       text COLLATE "C",
    columns     jsonb NOT NULL,
    recent      jsonb NOT NULL,
    base        json NOT NULL,
    PRIMARY KEY (site, kind, id)
) WITH (fillfactor = 50, toast_tuple_target = 4080);
CREATE INDEX object_present ON pbscast_log.object (site, kind, id) WHERE NOT gone;
COMMENT ON TABLE pbscast_log.object IS 'The projection: the latest incarnation of each object as its last event left it.';
COMMENT ON COLUMN pbscast_log.object.base IS 'Attributes as the incarnation began, and large ones as they are: seldom rewritten, so not worth parsing.';
COMMENT ON COLUMN pbscast_log.object.recent IS 'Attributes that changed since, null where one was removed: what an event rewrites.';

-- What an append is given: rows of the log and of the projection less what they have in common.

CREATE TYPE pbscast_log.new_event AS (
    position    bigint,
    "time"      timestamptz,
    incarnation integer,
    revision    integer,
    kind        text,
    id          text,
    event       text,
    provenance  text,
    owner       text,
    payload     text
);

CREATE TYPE pbscast_log.fold AS (
    position    bigint,
    incarnation integer,
    revision    integer,
    substate    integer,
    finalized   boolean,
    gone        boolean,
    kind        text,
    id          text,
    born        text,
    owner       text,
    queue       text,
    project     text,
    name        text,
    state       text,
    columns     jsonb,
    recent      jsonb,
    base        json
);

-- Statement triggers cost an INSERT nothing, and unlike missing rights they hold for the owner too.

CREATE FUNCTION pbscast_log.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are never changed: % on %.% refused', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON pbscast_log.event
    FOR EACH STATEMENT EXECUTE FUNCTION pbscast_log.refuse_change();

-- Least rights for the role of a daemon, to be run again after a migration that adds a table.

CREATE FUNCTION pbscast_log.grant_reader(role name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA pbscast_log TO %I', role);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA pbscast_log TO %I', role);
END
$$;
REVOKE EXECUTE ON FUNCTION pbscast_log.grant_reader(name) FROM PUBLIC;

CREATE FUNCTION pbscast_log.grant_writer(role name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pbscast_log.grant_reader(role);
    EXECUTE format('GRANT INSERT ON pbscast_log.event TO %I', role);
    EXECUTE format('GRANT INSERT, UPDATE ON pbscast_log.site, pbscast_log.object TO %I', role);
END
$$;
REVOKE EXECUTE ON FUNCTION pbscast_log.grant_writer(name) FROM PUBLIC;
