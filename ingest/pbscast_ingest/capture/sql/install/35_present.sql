-- Each of our functions as it is: its name and arguments, and a digest of what it does and as whom. The
-- switch may stand as it likes.
CREATE OR REPLACE FUNCTION pbscast.functions()
RETURNS text[] LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $functions$
    SELECT array_agg(format('%s(%s) = %s', p.proname, pg_get_function_identity_arguments(p.oid),
                            md5(concat_ws('|', CASE WHEN p.proname = 'mode' AND p.prosrc ~ '^SELECT [0-3]$' THEN 'mode' ELSE p.prosrc END,
                                          p.prosecdef, p.provolatile, array_to_string(p.proconfig, ','), r.rolname)))
                     ORDER BY p.oid)
      FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner
     WHERE p.pronamespace = to_regnamespace('pbscast')
$functions$;

-- What a save needs and the triggers' owner may not do, a line each: where it may do nothing, nothing is
-- left that could tell of a loss.
CREATE OR REPLACE FUNCTION pbscast.missing_rights()
RETURNS SETOF text LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $missing_rights$
    SELECT format('pbscast_owner may not use %s', needed.name)
      FROM pg_roles AS r
     CROSS JOIN LATERAL (
            SELECT 'schema ' || n.nspname, has_schema_privilege(r.oid, n.oid, 'USAGE')
              FROM pg_namespace n
             WHERE n.nspname = 'pbscast' OR n.oid = (SELECT extnamespace FROM pg_extension WHERE extname = 'hstore')
             UNION ALL
            SELECT 'pbscast.' || c.relname, CASE WHEN c.relkind <> 'S' THEN has_table_privilege(r.oid, c.oid, 'INSERT')
                                             WHEN c.relname = 'journal_seq' THEN has_sequence_privilege(r.oid, c.oid, 'USAGE')
                                             ELSE has_sequence_privilege(r.oid, c.oid, 'SELECT') AND has_sequence_privilege(r.oid, c.oid, 'UPDATE') END
              FROM pg_class c
             WHERE c.relnamespace = to_regnamespace('pbscast') AND c.relname IN ('journal', 'journal_seq', 'gap_seq')
             UNION ALL
            SELECT format('pbscast.%s()', p.proname), has_function_privilege(r.oid, p.oid, 'EXECUTE')
              FROM pg_proc p
             WHERE p.pronamespace = to_regnamespace('pbscast') AND p.proname NOT IN
                   ('functions', 'missing_rights', 'defects', 'shape', 'identity', 'heartbeat', 'reclaim', 'set_mode', 'pause', 'resume')
           ) AS needed (name, is_given)
     WHERE r.rolname = 'pbscast_owner' AND NOT needed.is_given
$missing_rights$;

-- What capture looks like (the reader asks the same: sql/health.sql). A trigger that was made anew, or
-- disabled and enabled, is another row. So is a function that a save needs, or the schema, when it or its
-- rights were changed; but an installation writes them all in the transaction that writes its own row. So it
-- also says what it found there, if anybody had touched that: else it would hide it.
CREATE OR REPLACE FUNCTION pbscast.shape()
RETURNS text LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $shape$
    SELECT
        (
            SELECT md5(coalesce(string_agg(concat_ws(' ', t.tgrelid, t.tgname, t.oid, t.xmin, t.tgenabled), ',' ORDER BY t.oid), ''))
            FROM pg_trigger AS t
            JOIN pg_proc AS p ON p.oid = t.tgfoid
            JOIN pg_namespace AS n ON n.oid = p.pronamespace AND n.nspname = 'pbscast'
        ) || (
            SELECT coalesce(string_agg(concat_ws(' ', '', p.proname, p.oid, p.xmin), ',' ORDER BY p.oid), '')
            FROM pg_proc AS p
            JOIN pg_namespace AS n ON n.oid = p.pronamespace AND n.nspname = 'pbscast'
            CROSS JOIN pbscast.installation AS i
            WHERE p.xmin <> i.xmin
                AND p.proname IN (SELECT split_part(installed, '(', 1) FROM unnest(i.functions) AS installed)
                AND p.proname NOT IN ('mode', 'set_mode', 'pause', 'resume', 'functions', 'missing_rights', 'defects', 'shape', 'identity', 'heartbeat', 'reclaim')
        ) || (
            SELECT coalesce(max(concat(' ', n.xmin)), '')
            FROM pg_namespace AS n
            CROSS JOIN pbscast.installation AS i
            WHERE n.nspname = 'pbscast' AND n.xmin <> i.xmin
        ) || (
            SELECT coalesce(max('/' || md5(to_json(i) ->> 'replaced')), '')
            FROM pbscast.installation AS i
        )
$shape$;

-- What capture looks like before it is made anew. What a save needs and is not as the last installation
-- left it: changes went by.
DO $present$
BEGIN
    PERFORM set_config('pbscast.install_replaced', pbscast.shape(), true);
    PERFORM set_config('pbscast.install_found', coalesce((
        SELECT string_agg(line, '; ')
          FROM (SELECT 'pbscast.' || split_part(wanted, ' = ', 1)
                  FROM pbscast.installation AS i CROSS JOIN unnest(i.functions) AS wanted
                 WHERE wanted <> ALL (pbscast.functions()) AND split_part(wanted, '(', 1) NOT IN
                       ('functions', 'missing_rights', 'defects', 'shape', 'identity', 'heartbeat', 'reclaim', 'set_mode', 'pause', 'resume')
                 UNION ALL
                SELECT pbscast.missing_rights()) AS t (line)), ''), true);
END
$present$;
