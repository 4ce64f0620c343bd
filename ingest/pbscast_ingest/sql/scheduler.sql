SELECT
    sched_name AS key, sched_creattm::text AS created, hstore_to_array(attributes) AS attributes,
    hstore_to_array(hstore(t) - ARRAY['attributes', 'sched_savetm']) AS columns
FROM pbs.scheduler AS t
