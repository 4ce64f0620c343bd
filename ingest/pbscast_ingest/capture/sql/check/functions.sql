-- The schema that the row triggers expect hstore in, by the name of each that disagrees; NULL for none.
SELECT string_agg(p.proname::text, ', ' ORDER BY p.proname)
  FROM pg_catalog.pg_proc p
 WHERE p.pronamespace = to_regnamespace('pbscast')
   AND p.proname = ANY (ARRAY['capture_job', 'capture_queue', 'capture_node', 'capture_resv', 'capture_server', 'capture_scheduler'])
   AND strpos(p.prosrc, quote_ident(%(hstore)s) || '.hs_concat(') = 0
