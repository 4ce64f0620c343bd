-- The one row of the server has no key.
SELECT
    '' AS key, sv_creattm::text AS created, hstore_to_array(attributes) AS attributes,
    hstore_to_array(hstore(t) - ARRAY['attributes', 'sv_savetm']) AS columns
FROM pbs.server AS t
