-- The one row of the server has no key.
SELECT
    '' AS key, sv_creattm::text AS created,
    CASE WHEN pg_column_size(attributes) <= %(lone)s THEN <hstore>.hstore_to_array(attributes) END AS attributes,
    CASE WHEN pg_column_size(attributes) <= %(lone)s THEN <hstore>.hstore_to_array(<hstore>.delete(<hstore>.hstore((ARRAY[t]::record[])[1]), '{attributes,sv_savetm}'::text[])) END AS columns
FROM pbs.server AS t
