SELECT
    ji_jobid AS key, ji_creattm::text AS created,
    <hstore>.hstore_to_array(<hstore>.delete(attributes, '{cookie,forward_x11_cookie,security,cred,credential_id}'::text[])) AS attributes,
    <hstore>.hstore_to_array(<hstore>.delete(<hstore>.hstore((ARRAY[t]::record[])[1]), '{attributes,ji_savetm}'::text[])) AS columns
FROM pbs.job AS t
WHERE ji_jobid >= convert_from(%(first)s::bytea, 'SQL_ASCII') COLLATE "default"
ORDER BY ji_jobid
LIMIT %(rows)s
