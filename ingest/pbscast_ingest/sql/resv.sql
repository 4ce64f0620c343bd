SELECT
    ri_resvid AS key, ri_creattm::text AS created, hstore_to_array(attributes) AS attributes,
    hstore_to_array(hstore(t) - ARRAY['attributes', 'ri_savetm']) AS columns
FROM pbs.resv AS t
