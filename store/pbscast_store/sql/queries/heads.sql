-- $1 site, $2 kinds, $3 ids; objects never seen are left out
SELECT wanted.kind, wanted.id, head.incarnation, head.revision, head.finalized, head.gone, head.born
FROM unnest($2::text[], $3::text[]) AS wanted (kind, id)
CROSS JOIN LATERAL (
    SELECT * FROM pbscast_log.object AS o WHERE o.site = $1 AND o.kind = wanted.kind AND o.id = wanted.id LIMIT 1
) AS head;
