SELECT
    ji_jobid AS key, ji_creattm::text AS created,
    hstore_to_array(delete(attributes, '{cookie,forward_x11_cookie,security,cred,credential_id}'::text[])) AS attributes,
    hstore_to_array(hstore(t) - ARRAY['attributes', 'ji_savetm']) AS columns
FROM pbs.job AS t
