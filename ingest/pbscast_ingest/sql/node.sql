SELECT
    nd_name AS key, nd_creattm::text AS created, <hstore>.hstore_to_array(attributes) AS attributes,
    <hstore>.hstore_to_array(<hstore>.delete(<hstore>.hstore((ARRAY[t]::record[])[1]), '{attributes,nd_savetm}'::text[])) AS columns
FROM pbs.node AS t
WHERE nd_name >= convert_from(%(first)s::bytea, 'SQL_ASCII') COLLATE "default"
ORDER BY nd_name
LIMIT %(rows)s
