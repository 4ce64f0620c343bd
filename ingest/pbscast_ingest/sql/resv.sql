SELECT
    ri_resvid AS key, ri_creattm::text AS created,
    CASE WHEN pg_column_size(attributes) <= %(lone)s THEN <hstore>.hstore_to_array(attributes) END AS attributes,
    CASE WHEN pg_column_size(attributes) <= %(lone)s THEN <hstore>.hstore_to_array(<hstore>.delete(<hstore>.hstore((ARRAY[t]::record[])[1]), '{attributes,ri_savetm}'::text[])) END AS columns
FROM pbs.resv AS t
WHERE ri_resvid >= convert_from(%(first)s::bytea, 'SQL_ASCII') COLLATE "default"
ORDER BY ri_resvid
LIMIT %(rows)s
