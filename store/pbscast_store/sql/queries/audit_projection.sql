-- $1 site, $2 kinds, $3 ids, $4 incarnations; in the order given. o: the object, l: the life
SELECT
    o.incarnation AS o_incarnation, o.revision AS o_revision, o.position AS o_position, o.first_position AS o_first_position,
    pbscast_log.microseconds(o.began) AS o_began, pbscast_log.microseconds(o.ended) AS o_ended,
    pbscast_log.microseconds(o.gone_at) AS o_gone_at, o.finalized AS o_finalized, o.gone AS o_gone,
    o.reason AS o_reason, o.exit_status AS o_exit_status, o.owner AS o_owner, o.queue AS o_queue, o.project AS o_project,
    o.name AS o_name, o.state AS o_state, o.substate AS o_substate, o.reached AS o_reached,
    o.base::text AS o_base, o.recent::text AS o_recent, o.columns::text AS o_columns,
    l.first_position AS l_first_position, l.last_position AS l_last_position,
    pbscast_log.microseconds(l.began) AS l_began, pbscast_log.microseconds(l.ended) AS l_ended,
    pbscast_log.microseconds(l.gone) AS l_gone, l.reason AS l_reason, l.exit_status AS l_exit_status,
    l.owner AS l_owner, l.queue AS l_queue, l.project AS l_project, l.name AS l_name, l.state AS l_state,
    l.reached AS l_reached
FROM unnest($2::text[], $3::text[], $4::integer[]) WITH ORDINALITY AS wanted (kind, id, incarnation, number)
LEFT JOIN LATERAL (
    SELECT * FROM pbscast_log.object WHERE site = $1 AND kind = wanted.kind AND id = wanted.id LIMIT 1
) AS o ON true
LEFT JOIN LATERAL (
    SELECT * FROM pbscast_log.life
    WHERE site = $1 AND kind = wanted.kind AND id = wanted.id AND incarnation = wanted.incarnation LIMIT 1
) AS l ON true
ORDER BY wanted.number;
