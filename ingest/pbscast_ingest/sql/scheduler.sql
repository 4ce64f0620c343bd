SELECT
    sched_name AS key, sched_creattm::text AS created,
    CASE WHEN pg_column_size(attributes) <= %(lone)s THEN <hstore>.hstore_to_array(attributes) END AS attributes,
    CASE WHEN pg_column_size(attributes) <= %(lone)s THEN <hstore>.hstore_to_array(<hstore>.delete(<hstore>.hstore((ARRAY[t]::record[])[1]), '{attributes,sched_savetm}'::text[])) END AS columns
FROM pbs.scheduler AS t
WHERE sched_name >= convert_from(%(first)s::bytea, 'SQL_ASCII') COLLATE "default"
ORDER BY sched_name
LIMIT %(rows)s
