SELECT pbs_schema_version FROM pbs.info LIMIT 1
