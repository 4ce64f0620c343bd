-- $1 site, $2 epoch, $3 position before, $4 position after, $5 cursor, $6 new events, $7 folds
-- The fence is the UPDATE of the site's row. It must find the epoch of the caller's lease, and it holds the row's lock until
-- the transaction has ended; the inserts read from it, so they come after it and not at all if it finds nothing. Hence
-- * of two appends to a site the second waits for the first to commit before it numbers an event: order of positions is
--   order of commits, and a reader who sees position n sees all before n;
-- * acquire changes the epoch under the same lock, so a writer whose lease was taken over, however late it wakes, finds no row;
-- * the position, the events, the projection and the cursor move together or not at all, so positions have no gaps.
-- It is one statement, so no client can fall asleep holding the lock.
WITH fence AS MATERIALIZED (
    UPDATE pbscast_log.site
    SET position = $4, cursor = $5, logged = greatest(logged, clock_timestamp())
    WHERE name = $1 AND epoch = $2 AND position = $3
    RETURNING name, logged
),
logging AS (
    INSERT INTO pbscast_log.event
        (site, logged, position, "time", incarnation, revision, kind, id, event, provenance, owner, payload)
    SELECT
        fence.name, fence.logged, e.position, e."time", e.incarnation, e.revision, e.kind, e.id, e.event, e.provenance,
        e.owner, e.payload
    FROM fence CROSS JOIN unnest($6::pbscast_log.new_event[]) AS e
),
folding AS (
    INSERT INTO pbscast_log.object AS o
        (site, position, incarnation, revision, substate, finalized, gone, kind, id, born, owner, queue, project, name, state,
         columns, recent, base)
    SELECT
        fence.name, f.position, f.incarnation, f.revision, f.substate, f.finalized, f.gone, f.kind, f.id, f.born, f.owner,
        f.queue, f.project, f.name, f.state, f.columns, f.recent, f.base
    FROM fence CROSS JOIN unnest($7::pbscast_log.fold[]) AS f
    ON CONFLICT (site, kind, id) DO UPDATE SET
        position = excluded.position,
        incarnation = excluded.incarnation,
        revision = excluded.revision,
        substate = excluded.substate,
        finalized = excluded.finalized,
        gone = excluded.gone,
        born = excluded.born,
        owner = excluded.owner,
        queue = excluded.queue,
        project = excluded.project,
        name = excluded.name,
        state = excluded.state,
        columns = CASE
            WHEN excluded.incarnation > o.incarnation THEN excluded.columns
            WHEN excluded.columns = '{}' THEN o.columns
            ELSE o.columns || excluded.columns
        END,
        recent = CASE
            WHEN excluded.incarnation > o.incarnation THEN excluded.recent
            WHEN excluded.base::text <> '{}' THEN
                (o.recent || excluded.recent) - ARRAY(SELECT json_object_keys(excluded.base))
            WHEN excluded.recent = '{}' THEN o.recent
            ELSE o.recent || excluded.recent
        END,
        base = CASE
            WHEN excluded.incarnation > o.incarnation THEN excluded.base
            WHEN excluded.base::text = '{}' THEN o.base
            ELSE (o.base::jsonb || excluded.base::jsonb)::json
        END
)
-- A doorbell nobody answers must not fill the queue: a full one would refuse the commit. Readers look now and then anyway.
SELECT CASE WHEN pg_notification_queue_usage() < 0.5 THEN pg_notify('pbscast_log', fence.name) END
FROM fence;
