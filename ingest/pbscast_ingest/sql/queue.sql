SELECT
    qu_name AS key, qu_creattm::text AS created, hstore_to_array(attributes) AS attributes,
    hstore_to_array(hstore(t) - ARRAY['attributes', 'qu_savetm']) AS columns
FROM pbs.queue AS t
