-- A life begins at the least time of its events up to its end, so that all it did lies within it: a datastore's clock may go
-- back. Lives that were logged before began with their first event whatever came after, and ended there if the end was earlier.

CREATE TEMPORARY TABLE early ON COMMIT DROP AS
SELECT l.site, l.kind, l.id, l.incarnation, min(e."time") AS began
FROM pbscast_log.event AS e
JOIN pbscast_log.lives AS l USING (site, kind, id, incarnation)
WHERE e."time" < l.began AND NOT EXISTS (
    SELECT
    FROM pbscast_log.event AS f
    WHERE f.site = e.site AND f.kind = e.kind AND f.id = e.id AND f.incarnation = e.incarnation
      AND f.event IN ('finalize', 'purge', 'delete') AND f.position < e.position
)
GROUP BY l.site, l.kind, l.id, l.incarnation;

UPDATE pbscast_log.life AS l
SET began = early.began,
    ended = greatest(early.began, coalesce(
        (
            SELECT f."time"
            FROM pbscast_log.event AS f
            WHERE f.site = l.site AND f.kind = l.kind AND f.id = l.id AND f.incarnation = l.incarnation AND f.event = 'finalize'
        ),
        l.gone
    ))
FROM early
WHERE early.site = l.site AND early.kind = l.kind AND early.id = l.id AND early.incarnation = l.incarnation;

UPDATE pbscast_log.object AS o
SET began = early.began, ended = l.ended
FROM early
LEFT JOIN pbscast_log.life AS l USING (site, kind, id, incarnation)
WHERE early.site = o.site AND early.kind = o.kind AND early.id = o.id AND early.incarnation = o.incarnation;

COMMENT ON COLUMN pbscast_log.life.began IS 'The least time of its events up to its end: that of the first, unless the datastore''s clock went back.';
