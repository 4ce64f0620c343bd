SELECT
    ri_resvid AS key, ri_creattm::text AS created, <hstore>.hstore_to_array(attributes) AS attributes,
    <hstore>.hstore_to_array(<hstore>.delete(<hstore>.hstore((ARRAY[t]::record[])[1]), '{attributes,ri_savetm}'::text[])) AS columns
FROM pbs.resv AS t
WHERE ri_resvid >= convert_from(%(first)s::bytea, 'SQL_ASCII') COLLATE "default"
ORDER BY ri_resvid
LIMIT %(rows)s
