-- One row of a PBS table by itself, and whether it was cut, as row_part.sql does, because it is more than %(bytes)s bytes: then
-- only those columns are told that say how it stands. Making an hstore of all would write the attributes out as text.
SELECT
    NOT is_small AS is_cut,
    CASE
        WHEN is_small THEN <hstore>.hstore_to_array(attributes)
        ELSE ARRAY(
            SELECT
                CASE
                    WHEN octet_length(item) > %(length)s
                        THEN regexp_replace(left(item, %(length)s), '[\u00C0-\u00FF][\u0080-\u00BF]*$', '')
                            || '...' || md5(substr(item, strpos(item, '.') + 1))
                    ELSE item
                END
            FROM (SELECT unnest(<hstore>.hstore_to_array(attributes)) AS item LIMIT %(items)s) AS first
        )
    END AS attributes,
    columns
FROM (
    SELECT
        sized.*,
        CASE
            WHEN is_small THEN <hstore>.hstore_to_array(<hstore>.delete(<hstore>.hstore((ARRAY[t]::record[])[1]), '{attributes,ji_savetm}'::text[]))
            ELSE ARRAY['ji_svrflags', ji_svrflags::text, 'ji_destin', ji_destin::text]
        END AS columns
    FROM pbs.job AS t
    CROSS JOIN LATERAL (
        SELECT kept.attributes, pg_column_size(kept.attributes) <= %(bytes)s AS is_small
        FROM (SELECT <hstore>.delete(attributes, '{cookie,forward_x11_cookie,security,cred,credential_id}'::text[]) AS attributes OFFSET 0) AS kept
        OFFSET 0
    ) AS sized
    WHERE %(kind)s = 'job' AND ji_jobid = convert_from(%(key)s::bytea, 'SQL_ASCII') COLLATE "default"
    UNION ALL
    SELECT
        sized.*,
        CASE
            WHEN is_small THEN <hstore>.hstore_to_array(<hstore>.delete(<hstore>.hstore((ARRAY[t]::record[])[1]), '{attributes,qu_savetm}'::text[]))
            ELSE '{}'::text[]
        END AS columns
    FROM pbs.queue AS t
    CROSS JOIN LATERAL (
        SELECT kept.attributes, pg_column_size(kept.attributes) <= %(bytes)s AS is_small
        FROM (SELECT <hstore>.hs_concat(attributes, ''::<hstore>.hstore) AS attributes OFFSET 0) AS kept
        OFFSET 0
    ) AS sized
    WHERE %(kind)s = 'queue' AND qu_name = convert_from(%(key)s::bytea, 'SQL_ASCII') COLLATE "default"
    UNION ALL
    SELECT
        sized.*,
        CASE
            WHEN is_small THEN <hstore>.hstore_to_array(<hstore>.delete(<hstore>.hstore((ARRAY[t]::record[])[1]), '{attributes,nd_savetm}'::text[]))
            ELSE ARRAY['nd_state', nd_state::text]
        END AS columns
    FROM pbs.node AS t
    CROSS JOIN LATERAL (
        SELECT kept.attributes, pg_column_size(kept.attributes) <= %(bytes)s AS is_small
        FROM (SELECT <hstore>.hs_concat(attributes, ''::<hstore>.hstore) AS attributes OFFSET 0) AS kept
        OFFSET 0
    ) AS sized
    WHERE %(kind)s = 'node' AND nd_name = convert_from(%(key)s::bytea, 'SQL_ASCII') COLLATE "default"
    UNION ALL
    SELECT
        sized.*,
        CASE
            WHEN is_small THEN <hstore>.hstore_to_array(<hstore>.delete(<hstore>.hstore((ARRAY[t]::record[])[1]), '{attributes,ri_savetm}'::text[]))
            ELSE ARRAY['ri_state', ri_state::text, 'ri_substate', ri_substate::text]
        END AS columns
    FROM pbs.resv AS t
    CROSS JOIN LATERAL (
        SELECT kept.attributes, pg_column_size(kept.attributes) <= %(bytes)s AS is_small
        FROM (SELECT <hstore>.hs_concat(attributes, ''::<hstore>.hstore) AS attributes OFFSET 0) AS kept
        OFFSET 0
    ) AS sized
    WHERE %(kind)s = 'resv' AND ri_resvid = convert_from(%(key)s::bytea, 'SQL_ASCII') COLLATE "default"
    UNION ALL
    SELECT
        sized.*,
        CASE
            WHEN is_small THEN <hstore>.hstore_to_array(<hstore>.delete(<hstore>.hstore((ARRAY[t]::record[])[1]), '{attributes,sched_savetm}'::text[]))
            ELSE '{}'::text[]
        END AS columns
    FROM pbs.scheduler AS t
    CROSS JOIN LATERAL (
        SELECT kept.attributes, pg_column_size(kept.attributes) <= %(bytes)s AS is_small
        FROM (SELECT <hstore>.hs_concat(attributes, ''::<hstore>.hstore) AS attributes OFFSET 0) AS kept
        OFFSET 0
    ) AS sized
    WHERE %(kind)s = 'scheduler' AND sched_name = convert_from(%(key)s::bytea, 'SQL_ASCII') COLLATE "default"
    UNION ALL
    SELECT
        sized.*,
        CASE
            WHEN is_small THEN <hstore>.hstore_to_array(<hstore>.delete(<hstore>.hstore((ARRAY[t]::record[])[1]), '{attributes,sv_savetm}'::text[]))
            ELSE '{}'::text[]
        END AS columns
    FROM pbs.server AS t
    CROSS JOIN LATERAL (
        SELECT kept.attributes, pg_column_size(kept.attributes) <= %(bytes)s AS is_small
        FROM (SELECT <hstore>.hs_concat(attributes, ''::<hstore>.hstore) AS attributes OFFSET 0) AS kept
        OFFSET 0
    ) AS sized
    WHERE %(kind)s = 'server'
) AS found
