-- What must be true before anything is touched. One clear line each, under SQLSTATEs of our own.
DO $preflight$
DECLARE
    wanted  record;
    version text;
    place   text;
    excess  text;
    reader  text := current_setting('pbscast.install_reader');
BEGIN
    IF current_setting('server_version_num')::integer NOT BETWEEN 100000 AND 189999 THEN
        RAISE EXCEPTION 'PostgreSQL % is not supported: pbscast serves datastores on PostgreSQL 10 to 18',
            current_setting('server_version') USING ERRCODE = 'PBC01';
    END IF;
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
        RAISE EXCEPTION 'role % is no superuser: connect as the PBS database user (PBS_HOME/server_priv/db_user)',
            current_user USING ERRCODE = 'PBC02';
    END IF;
    IF to_regclass('pbs.info') IS NULL THEN
        RAISE EXCEPTION 'database % holds no PBS datastore (no table pbs.info): PBS calls it pbs_datastore',
            current_database() USING ERRCODE = 'PBC03';
    END IF;
    SELECT n.nspname INTO place
      FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
     WHERE e.extname = 'hstore';
    IF place IS NULL THEN
        RAISE EXCEPTION 'database % has no hstore extension, in which PBS keeps its attributes',
            current_database() USING ERRCODE = 'PBC04';
    END IF;
    -- What is read stays locked until COMMIT, and PBS may want to alter it before that: but not what was
    -- read in a block that failed.
    BEGIN
        SELECT i.pbs_schema_version INTO version FROM pbs.info i LIMIT 1;
        RAISE EXCEPTION USING ERRCODE = 'PBC00';
    EXCEPTION WHEN SQLSTATE 'PBC00' THEN NULL;
    END;
    IF version IS NULL OR version !~ ('^' || current_setting('pbscast.install_schemas') || '$') THEN
        RAISE EXCEPTION 'PBS datastore schema % is not known to this release: it serves 1.5.x',
            coalesce(version, '(none)') USING ERRCODE = 'PBC05';
    END IF;
    FOR wanted IN
        SELECT t.kind, c.name
          FROM (VALUES ('job',       ARRAY['ji_jobid', 'ji_svrflags', 'ji_destin', 'ji_creattm', 'ji_savetm']),
                       ('queue',     ARRAY['qu_name', 'qu_creattm', 'qu_savetm']),
                       ('node',      ARRAY['nd_name', 'nd_state', 'nd_creattm', 'nd_savetm']),
                       ('resv',      ARRAY['ri_resvid', 'ri_state', 'ri_substate', 'ri_creattm', 'ri_savetm']),
                       ('server',    ARRAY['sv_creattm', 'sv_savetm']),
                       ('scheduler', ARRAY['sched_name', 'sched_creattm', 'sched_savetm'])
               ) AS t (kind, columns), unnest(t.columns || 'attributes'::text) AS c (name)
         WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
                            WHERE a.attrelid = to_regclass('pbs.' || t.kind)
                              AND a.attname = c.name AND a.attnum > 0 AND NOT a.attisdropped)
         LIMIT 1
    LOOP
        RAISE EXCEPTION 'PBS datastore schema % lacks column %.%', version, 'pbs.' || wanted.kind, wanted.name
            USING ERRCODE = 'PBC05';
    END LOOP;
    IF reader = 'pbscast_owner' OR EXISTS
       (SELECT FROM pg_catalog.pg_roles WHERE rolname = reader AND (rolsuper OR rolname = current_user)) THEN
        RAISE EXCEPTION 'role % cannot be the reader: it has more rights than the reader may have', reader
            USING ERRCODE = 'PBC06';
    END IF;
    -- The triggers would run with its rights, and nobody is to get hold of them.
    SELECT concat_ws(', ', CASE WHEN r.rolsuper THEN 'is a superuser' END, CASE WHEN r.rolcanlogin THEN 'may log in' END,
                     CASE WHEN r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls THEN 'has rights of its own' END,
                     (SELECT 'is or has a member: ' || string_agg(DISTINCT o.rolname::text, ', ')
                        FROM pg_catalog.pg_auth_members m
                        JOIN pg_catalog.pg_roles o ON o.oid = CASE r.oid WHEN m.roleid THEN m.member ELSE m.roleid END
                       WHERE r.oid IN (m.roleid, m.member)))
      INTO excess FROM pg_catalog.pg_roles r WHERE r.rolname = 'pbscast_owner';
    IF excess <> '' THEN
        RAISE EXCEPTION 'role pbscast_owner, as which the triggers would run, %: take that from it, or drop it', excess
            USING ERRCODE = 'PBC06';
    END IF;
    -- For the statements below: the row triggers name hstore's functions by schema.
    PERFORM set_config('pbscast.install_hstore', place, true);
END
$preflight$;
