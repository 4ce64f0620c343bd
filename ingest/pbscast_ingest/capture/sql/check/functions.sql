-- The row triggers that expect hstore in another schema, NULL for none; and who may make functions in
-- hstore's schema that should not: PUBLIC, the reader or NULL.
SELECT (SELECT string_agg(p.proname::text, ', ' ORDER BY p.proname)
          FROM pg_catalog.pg_proc p
         WHERE p.pronamespace = to_regnamespace('pbscast')
           AND p.proname = ANY (ARRAY['capture_job', 'capture_queue', 'capture_node', 'capture_resv', 'capture_server', 'capture_scheduler'])
           AND strpos(p.prosrc, quote_ident(%(hstore)s) || '.hs_concat(') = 0),
       (SELECT CASE WHEN has_schema_privilege('public', n.oid, 'CREATE') THEN 'PUBLIC'
                    WHEN has_schema_privilege(r.oid, n.oid, 'CREATE') THEN r.rolname::text END
          FROM pg_catalog.pg_namespace n LEFT JOIN pg_catalog.pg_roles r ON r.rolname = %(reader)s
         WHERE n.nspname = %(hstore)s)
