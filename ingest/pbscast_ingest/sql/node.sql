SELECT
    nd_name AS key, nd_creattm::text AS created, hstore_to_array(attributes) AS attributes,
    hstore_to_array(hstore(t) - ARRAY['attributes', 'nd_savetm']) AS columns
FROM pbs.node AS t
