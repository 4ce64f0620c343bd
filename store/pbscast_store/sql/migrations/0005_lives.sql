-- Every incarnation that has ended, from its first event to its end.

CREATE TABLE pbscast_log.life (
    first_position bigint NOT NULL,
    last_position  bigint NOT NULL,
    began          timestamptz NOT NULL,
    ended          timestamptz NOT NULL,
    gone           timestamptz,
    incarnation    integer NOT NULL,
    exit_status    integer,
    site           text COLLATE "C" NOT NULL,
    kind           text COLLATE "C" NOT NULL,
    id             text COLLATE "C" NOT NULL,
    reason         text COLLATE "C",
    owner          text COLLATE "C",
    queue          text COLLATE "C",
    project        text COLLATE "C",
    name           text COLLATE "C",
    state          text COLLATE "C",
    reached        text[] COLLATE "C" NOT NULL,
    PRIMARY KEY (site, kind, id, incarnation)
);
COMMENT ON TABLE pbscast_log.life IS 'The incarnations that have ended: finalized, or gone from the datastore. Kept by the append.';
COMMENT ON COLUMN pbscast_log.life.ended IS 'Time of the finalize; without one, when the row left the datastore. Never before it began.';
COMMENT ON COLUMN pbscast_log.life.gone IS 'When the row left the datastore; null while it is there.';
COMMENT ON COLUMN pbscast_log.life.state IS 'The last visible one.';
COMMENT ON COLUMN pbscast_log.life.reached IS 'The visible states it was in, each once, in the order in which it first was.';

-- The lives of an older log, from its events. These do not say that a row is gone where that was no event of its own: then
-- the projection does, of the last incarnation; of one before, that another has begun.

CREATE TEMPORARY TABLE lived ON COMMIT DROP AS
WITH standing AS (
    SELECT
        site, kind, id, incarnation, payload::json ->> 'state' AS state,
        min(position) AS first_position, max(position) AS last_position,
        max(position) FILTER (WHERE event = 'finalize') AS final_position,
        min(position) FILTER (WHERE event IN ('purge', 'delete')) AS gone_position
    FROM pbscast_log.event
    GROUP BY site, kind, id, incarnation, payload::json ->> 'state'
),
told AS (
    SELECT
        site, kind, id, incarnation,
        min(first_position) AS first_position, max(last_position) AS last_position,
        max(final_position) AS final_position, min(gone_position) AS gone_position,
        coalesce(array_agg(state ORDER BY first_position) FILTER (WHERE state IS NOT NULL), '{}') AS reached
    FROM standing
    GROUP BY site, kind, id, incarnation
),
timed AS (
    SELECT
        told.*,
        first."time" AS began,
        last.payload::json AS last,
        final."time" AS final,
        final.payload::json ->> 'reason' AS reason,
        (final.payload::json ->> 'exit_status')::integer AS exit_status,
        coalesce(
            gone."time",
            CASE WHEN object.incarnation > told.incarnation
                THEN lead(first."time") OVER (PARTITION BY told.site, told.kind, told.id ORDER BY told.incarnation)
                WHEN object.gone THEN coalesce(final."time", last."time")
            END
        ) AS gone
    FROM told
    JOIN pbscast_log.object USING (site, kind, id)
    JOIN pbscast_log.event AS first ON first.site = told.site AND first.position = told.first_position
    JOIN pbscast_log.event AS last ON last.site = told.site AND last.position = told.last_position
    LEFT JOIN pbscast_log.event AS final ON final.site = told.site AND final.position = told.final_position
    LEFT JOIN pbscast_log.event AS gone ON gone.site = told.site AND gone.position = told.gone_position
)
SELECT *, CASE WHEN final IS NOT NULL OR gone IS NOT NULL THEN greatest(coalesce(final, gone), began) END AS ended
FROM timed;

INSERT INTO pbscast_log.life
    (first_position, last_position, began, ended, gone, incarnation, exit_status, site, kind, id, reason, owner, queue, project,
     name, state, reached)
SELECT
    first_position, last_position, began, ended, gone, incarnation, exit_status, site, kind, id, reason, last ->> 'owner',
    last ->> 'queue', last ->> 'project', last ->> 'name', last ->> 'state', reached
FROM lived
WHERE ended IS NOT NULL;

UPDATE pbscast_log.object
SET first_position = lived.first_position, began = lived.began, ended = lived.ended, gone_at = lived.gone,
    reason = lived.reason, exit_status = lived.exit_status, reached = lived.reached
FROM lived
WHERE object.site = lived.site AND object.kind = lived.kind AND object.id = lived.id AND object.incarnation = lived.incarnation;

CREATE INDEX life_span ON pbscast_log.life USING gist (tstzrange(began, ended, '[]'));

CREATE VIEW pbscast_log.lives AS
SELECT
    site, kind, id, incarnation, first_position, last_position, began, ended, gone, reason, exit_status, owner, queue, project,
    name, state, reached
FROM pbscast_log.life
UNION ALL
SELECT
    site, kind, id, incarnation, first_position, position, began, ended, gone_at, reason, exit_status, owner, queue, project,
    name, state, reached
FROM pbscast_log.object
WHERE ended IS NULL;
COMMENT ON VIEW pbscast_log.lives IS 'Every incarnation: those that have ended, and those that have not.';

CREATE OR REPLACE FUNCTION pbscast_log.grant_writer(role name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pbscast_log.grant_reader(role);
    EXECUTE format('GRANT INSERT ON pbscast_log.event TO %I', role);
    EXECUTE format('GRANT INSERT, UPDATE ON pbscast_log.site, pbscast_log.object, pbscast_log.life TO %I', role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION pbscast_log.make_partitions(interval) TO %I', role);
END
$$;
SELECT pbscast_log.grant_again();
