-- The hash chain of each site, and what the projection tells of lives. No statement here reads or rewrites a table;
-- the bounds of what becomes the first partition are checked in a step of its own, without a lock that others feel.
-- Site first, as the append locks them: whoever waits for us holds nothing that we want.

LOCK TABLE pbscast_log.site, pbscast_log.event, pbscast_log.object IN ACCESS EXCLUSIVE MODE;

ALTER TABLE pbscast_log.site
    ADD COLUMN digest bytea NOT NULL DEFAULT '\x0000000000000000000000000000000000000000000000000000000000000000',
    ADD COLUMN chained_after bigint NOT NULL DEFAULT 0;
UPDATE pbscast_log.site SET chained_after = position;
COMMENT ON COLUMN pbscast_log.site.digest IS 'Of the last event; 32 zero bytes before the first that is chained.';
COMMENT ON COLUMN pbscast_log.site.chained_after IS 'Events up to this position were logged before there was a chain.';

ALTER TABLE pbscast_log.event ADD COLUMN digest bytea;
COMMENT ON COLUMN pbscast_log.event.digest IS 'SHA-256 of the digest of the event before and of this event; null before the chain began.';

ALTER TABLE pbscast_log.object
    ADD COLUMN first_position bigint,
    ADD COLUMN began timestamptz,
    ADD COLUMN ended timestamptz,
    ADD COLUMN gone_at timestamptz,
    ADD COLUMN exit_status integer,
    ADD COLUMN reason text COLLATE "C",
    ADD COLUMN reached text[] COLLATE "C";
COMMENT ON COLUMN pbscast_log.object.first_position IS 'Of the first event of the incarnation.';
COMMENT ON COLUMN pbscast_log.object.began IS 'Time of the first event of the incarnation.';
COMMENT ON COLUMN pbscast_log.object.ended IS 'Time of its finalize; without one, when its row left the datastore. Never before it began.';
COMMENT ON COLUMN pbscast_log.object.gone_at IS 'When its row left the datastore.';
COMMENT ON COLUMN pbscast_log.object.reached IS 'The visible states it was in, each once, in the order in which it first was.';

-- A writer of the older schema gets no further than these: the types it would fill no longer exist.

DROP TYPE pbscast_log.new_event, pbscast_log.fold;

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
    payload     text,
    digest      bytea
);

CREATE TYPE pbscast_log.fold AS (
    position       bigint,
    first_position bigint,
    began          timestamptz,
    ended          timestamptz,
    gone_at        timestamptz,
    incarnation    integer,
    revision       integer,
    substate       integer,
    exit_status    integer,
    finalized      boolean,
    gone           boolean,
    kind           text,
    id             text,
    born           text,
    owner          text,
    queue          text,
    project        text,
    name           text,
    state          text,
    reason         text,
    reached        text[],
    columns        jsonb,
    recent         jsonb,
    base           json
);

-- What an append's parameters are: scalars to drivers, which send the arrays as they were written.

CREATE DOMAIN pbscast_log.new_events AS pbscast_log.new_event[];
CREATE DOMAIN pbscast_log.folds AS pbscast_log.fold[];

-- What is there becomes the first partition, up to the end of the month in which the last event was logged, this one at least.

DO $$
BEGIN
    EXECUTE format(
        'ALTER TABLE pbscast_log.event ADD CONSTRAINT event_logged CHECK (logged < %L) NOT VALID',
        (SELECT date_trunc('month', greatest(clock_timestamp(), max(logged)) AT TIME ZONE 'UTC') + interval '1 month'
         FROM pbscast_log.site) AT TIME ZONE 'UTC'
    );
END
$$;
