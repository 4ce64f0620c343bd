-- What the triggers and the reader need and do not have, a line each.
WITH needed (role, kind, name, right_) AS (
    SELECT 'pbscast_owner', 'schema', s, 'USAGE' FROM unnest(ARRAY['pbscast', %(hstore)s]) AS s
    UNION ALL SELECT 'pbscast_owner', 'table', 'pbscast.journal', r
                FROM unnest(ARRAY['SELECT', 'INSERT', 'TRUNCATE']) AS r
    UNION ALL SELECT 'pbscast_owner', 'table', t, 'SELECT'
                FROM unnest(ARRAY['pbscast.control', 'pbscast.installation']) AS t
    UNION ALL SELECT 'pbscast_owner', 'sequence', 'pbscast.journal_seq', 'USAGE'
    UNION ALL SELECT 'pbscast_owner', 'sequence', 'pbscast.gap_seq', r FROM unnest(ARRAY['SELECT', 'UPDATE']) AS r
    UNION ALL SELECT 'pbscast_owner', 'function', p.oid::regprocedure::text, 'EXECUTE'
                FROM pg_catalog.pg_proc p WHERE p.pronamespace = to_regnamespace('pbscast')
    UNION ALL SELECT %(reader)s, 'schema', s, 'USAGE' FROM unnest(ARRAY['pbscast', 'pbs', %(hstore)s]) AS s
    UNION ALL SELECT %(reader)s, 'table', t, 'SELECT'
                FROM unnest(ARRAY['pbs.job', 'pbs.queue', 'pbs.node', 'pbs.resv', 'pbs.server', 'pbs.scheduler', 'pbs.info',
                                  'pbscast.journal', 'pbscast.installation', 'pbscast.control',
                                  'pbscast.journal_seq', 'pbscast.gap_seq']) AS t
    UNION ALL SELECT %(reader)s, 'table', 'pbscast.journal', 'DELETE'
    UNION ALL SELECT %(reader)s, 'function', f, 'EXECUTE'
                FROM unnest(ARRAY['pbscast.identity()', 'pbscast.mode()', 'pbscast.cap()', 'pbscast.is_full()', 'pbscast.functions()', 'pbscast.missing_rights()', 'pbscast.defects()', 'pbscast.heartbeat()']) AS f
)
SELECT format('%%s may not %%s %%s', n.role, n.right_, n.name)
  FROM needed n JOIN pg_catalog.pg_roles r ON r.rolname = n.role
 WHERE NOT CASE n.kind
           WHEN 'schema' THEN to_regnamespace(quote_ident(n.name)) IS NULL OR has_schema_privilege(r.oid, n.name, n.right_)
           WHEN 'table' THEN to_regclass(n.name) IS NULL OR has_table_privilege(r.oid, n.name, n.right_)
           WHEN 'sequence' THEN to_regclass(n.name) IS NULL OR has_sequence_privilege(r.oid, n.name, n.right_)
           ELSE to_regprocedure(n.name) IS NULL OR has_function_privilege(r.oid, n.name, n.right_) END
 UNION ALL
SELECT format('pbscast_owner does not own pbscast.%%s', o.name)
  FROM (SELECT c.relname::text, c.relowner FROM pg_catalog.pg_class c
         WHERE c.relnamespace = to_regnamespace('pbscast') AND c.relkind IN ('r', 'S')
        UNION ALL SELECT p.proname || '()', p.proowner FROM pg_catalog.pg_proc p WHERE p.pronamespace = to_regnamespace('pbscast')
       ) AS o (name, owner)
 WHERE o.owner <> ALL (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = 'pbscast_owner')
 UNION ALL
SELECT format('pbscast.%%s() does not run as its owner', p.proname)
  FROM pg_catalog.pg_proc p
 WHERE p.pronamespace = to_regnamespace('pbscast') AND p.proname LIKE 'capture%%' AND NOT p.prosecdef
 UNION ALL
SELECT 'there is no role pbscast_owner' WHERE to_regrole('pbscast_owner') IS NULL
 UNION ALL
SELECT 'pbscast_owner may log in, or do or get more than write the journal: take that from it'
  FROM pg_catalog.pg_roles r
 WHERE r.rolname = 'pbscast_owner'
   AND (r.rolsuper OR r.rolcanlogin OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls
        OR EXISTS (SELECT FROM pg_catalog.pg_auth_members m WHERE r.oid IN (m.roleid, m.member)))
