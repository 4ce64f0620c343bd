SELECT
    nd_name AS key, nd_creattm::text AS created,
    CASE WHEN pg_column_size(attributes) <= %(lone)s THEN <hstore>.hstore_to_array(attributes) END AS attributes,
    CASE WHEN pg_column_size(attributes) <= %(lone)s THEN <hstore>.hstore_to_array(<hstore>.delete(<hstore>.hstore((ARRAY[t]::record[])[1]), '{attributes,nd_savetm}'::text[])) END AS columns
FROM pbs.node AS t
WHERE nd_name >= convert_from(%(first)s::bytea, 'SQL_ASCII') COLLATE "default"
ORDER BY nd_name
LIMIT %(rows)s
