-- The one row of the server has no key.
SELECT
    '' AS key, sv_creattm::text AS created, <hstore>.hstore_to_array(attributes) AS attributes,
    <hstore>.hstore_to_array(<hstore>.delete(<hstore>.hstore((ARRAY[t]::record[])[1]), '{attributes,sv_savetm}'::text[])) AS columns
FROM pbs.server AS t
