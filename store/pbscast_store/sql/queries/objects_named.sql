-- $1 site, $2 kind, $3 ids
SELECT
    site, kind, id, incarnation, revision, position, born, finalized, gone, owner, queue, project, name, state, substate,
    jsonb_strip_nulls(base::jsonb || recent) AS attributes, columns
FROM pbscast_log.object
WHERE site = $1 AND kind = $2 AND id = ANY ($3::text[]);
