-- $1 site, $2 epoch, $3 position before, $4 position after, $5 digest after, $6 logged, $7 cursor, $8 new events, $9 folds of the
-- latest incarnations, $10 folds of incarnations that others have superseded
-- The fence is the UPDATE of the site's row. It must find the epoch of the caller's lease, and it holds the row's lock until
-- the transaction has ended; the inserts read from it, so they come after it and not at all if it finds nothing. Hence
-- * of two appends to a site the second waits for the first to commit before it numbers an event: order of positions is
--   order of commits, and a reader who sees position n sees all before n;
-- * acquire changes the epoch under the same lock, so a writer whose lease was taken over, however late it wakes, finds no row;
-- * the position, the digest, the events, the projection and the cursor move together or not at all, so positions have no gaps,
--   and the digest that the next event is chained to is that of the last one logged;
-- * what is read here of the projection (by `ending`, from the statement's snapshot) is as the append before left it: had another
--   come between the snapshot and the lock, the position would not be found.
-- It is one statement, so no client can fall asleep holding the lock.
WITH fence AS MATERIALIZED (
    UPDATE pbscast_log.site
    SET position = $4, digest = $5, logged = $6, cursor = $7
    WHERE name = $1 AND epoch = $2 AND position = $3
    RETURNING name, logged
),
logging AS (
    INSERT INTO pbscast_log.event
        (site, logged, position, "time", incarnation, revision, kind, id, event, provenance, owner, payload, digest)
    SELECT
        fence.name, fence.logged, e.position, e."time", e.incarnation, e.revision, e.kind, e.id, e.event, e.provenance,
        e.owner, e.payload, e.digest
    FROM fence CROSS JOIN unnest($8::pbscast_log.new_events) AS e
),
folding AS (
    INSERT INTO pbscast_log.object AS o
        (site, position, first_position, began, ended, gone_at, incarnation, revision, substate, exit_status, finalized, gone,
         kind, id, born, owner, queue, project, name, state, reason, reached, columns, recent, base)
    SELECT
        fence.name, f.position, f.first_position, f.began, f.ended, f.gone_at, f.incarnation, f.revision, f.substate,
        f.exit_status, f.finalized, f.gone, f.kind, f.id, f.born, f.owner, f.queue, f.project, f.name, f.state, f.reason,
        f.reached, f.columns, f.recent, f.base
    FROM fence CROSS JOIN unnest($9::pbscast_log.folds) AS f
    ON CONFLICT (site, kind, id) DO UPDATE SET
        position = excluded.position,
        first_position = coalesce(excluded.first_position, o.first_position),
        began = CASE WHEN excluded.incarnation > o.incarnation THEN excluded.began ELSE least(o.began, excluded.began) END,
        ended = CASE
            WHEN excluded.incarnation > o.incarnation THEN excluded.ended
            WHEN excluded.ended IS NULL THEN o.ended
            WHEN excluded.reason IS NOT NULL OR o.ended IS NULL THEN greatest(excluded.ended, least(o.began, excluded.began))
            ELSE o.ended
        END,
        gone_at = CASE
            WHEN excluded.incarnation > o.incarnation THEN excluded.gone_at
            ELSE coalesce(o.gone_at, excluded.gone_at)
        END,
        incarnation = excluded.incarnation,
        revision = excluded.revision,
        substate = excluded.substate,
        exit_status = CASE
            WHEN excluded.incarnation > o.incarnation OR excluded.reason IS NOT NULL THEN excluded.exit_status
            ELSE o.exit_status
        END,
        finalized = excluded.finalized,
        gone = excluded.gone,
        born = excluded.born,
        owner = excluded.owner,
        queue = excluded.queue,
        project = excluded.project,
        name = excluded.name,
        state = excluded.state,
        reason = CASE
            WHEN excluded.incarnation > o.incarnation THEN excluded.reason
            ELSE coalesce(excluded.reason, o.reason)
        END,
        reached = CASE
            WHEN excluded.incarnation > o.incarnation THEN excluded.reached
            WHEN excluded.reached <@ o.reached THEN o.reached
            ELSE o.reached || ARRAY(
                SELECT state FROM unnest(excluded.reached) WITH ORDINALITY AS news (state, number)
                WHERE state <> ALL (o.reached) ORDER BY number
            )
        END,
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
    RETURNING
        site, kind, id, incarnation, first_position, position, began, ended, gone_at, reason, exit_status, owner, queue,
        project, name, state, reached
),
-- What the log held of a superseded incarnation, if anything, is the object; the batch may hold more of it.
superseding AS (
    SELECT
        fence.name AS site, f.kind, f.id, f.incarnation,
        coalesce(f.first_position, o.first_position) AS first_position,
        coalesce(f.position, o.position) AS position,
        least(f.began, o.began) AS began,
        greatest(CASE WHEN f.reason IS NULL THEN coalesce(o.ended, f.ended) ELSE f.ended END, least(f.began, o.began)) AS ended,
        coalesce(o.gone_at, f.gone_at) AS gone_at,
        coalesce(f.reason, o.reason) AS reason,
        CASE WHEN f.reason IS NULL THEN o.exit_status ELSE f.exit_status END AS exit_status,
        CASE WHEN f.position IS NULL THEN o.owner ELSE f.owner END AS owner,
        CASE WHEN f.position IS NULL THEN o.queue ELSE f.queue END AS queue,
        CASE WHEN f.position IS NULL THEN o.project ELSE f.project END AS project,
        CASE WHEN f.position IS NULL THEN o.name ELSE f.name END AS name,
        CASE WHEN f.position IS NULL THEN o.state ELSE f.state END AS state,
        coalesce(o.reached, '{}') || ARRAY(
            SELECT state FROM unnest(f.reached) WITH ORDINALITY AS news (state, number)
            WHERE state <> ALL (coalesce(o.reached, '{}')) ORDER BY number
        ) AS reached
    FROM fence
    CROSS JOIN unnest($10::pbscast_log.folds) AS f
    LEFT JOIN LATERAL (  -- with LIMIT it is looked up in the index, however small the table was when this was planned
        SELECT * FROM pbscast_log.object AS o
        WHERE o.site = fence.name AND o.kind = f.kind AND o.id = f.id AND o.incarnation = f.incarnation
        LIMIT 1
    ) AS o ON true
),
living AS (
    INSERT INTO pbscast_log.life
        (site, kind, id, incarnation, first_position, last_position, began, ended, gone, reason, exit_status, owner, queue,
         project, name, state, reached)
    SELECT * FROM folding WHERE ended IS NOT NULL
    UNION ALL
    SELECT * FROM superseding
    ON CONFLICT (site, kind, id, incarnation) DO UPDATE SET
        last_position = excluded.last_position,
        ended = excluded.ended,
        gone = excluded.gone,
        reason = excluded.reason,
        exit_status = excluded.exit_status,
        owner = excluded.owner,
        queue = excluded.queue,
        project = excluded.project,
        name = excluded.name,
        state = excluded.state,
        reached = excluded.reached
)
-- A doorbell nobody answers must not fill the queue: a full one would refuse the commit. Readers look now and then anyway.
SELECT CASE WHEN pg_notification_queue_usage() < 0.5 THEN pg_notify('pbscast_log', fence.name) END
FROM fence;
