SELECT
    ji_jobid AS key, ji_creattm::text AS created, hstore_to_array(attributes) AS attributes,
    hstore_to_array(hstore(t) - ARRAY['attributes', 'ji_savetm']) AS columns
FROM pbs.job AS t
