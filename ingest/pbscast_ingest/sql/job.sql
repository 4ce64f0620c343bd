SELECT
    ji_jobid AS key, ji_creattm::text AS created,
    CASE WHEN pg_column_size(attributes) <= %(lone)s THEN <hstore>.hstore_to_array(<hstore>.delete(attributes, '{cookie,forward_x11_cookie,security,cred,credential_id}'::text[])) END AS attributes,
    CASE WHEN pg_column_size(attributes) <= %(lone)s THEN <hstore>.hstore_to_array(<hstore>.delete(<hstore>.hstore((ARRAY[t]::record[])[1]), '{attributes,ji_savetm}'::text[])) END AS columns
FROM pbs.job AS t
WHERE ji_jobid >= convert_from(%(first)s::bytea, 'SQL_ASCII') COLLATE "default"
ORDER BY ji_jobid
LIMIT %(rows)s
