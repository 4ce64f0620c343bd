SELECT
    pbscast.identity() AS journal,
    i.version AS version,
    (SELECT n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'hstore') AS hstore,
    (SELECT pbs_schema_version FROM pbs.info LIMIT 1) AS schema
FROM pbscast.installation AS i
