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

-- Which of those that a save needs are not as the last installation left them, before they are made anew:
-- changes went by.
DO $present$
BEGIN
    PERFORM set_config('pbscast.install_found', coalesce((
        SELECT string_agg('pbscast.' || split_part(wanted, ' = ', 1), '; ')
          FROM pbscast.installation AS i CROSS JOIN unnest(i.functions) AS wanted
         WHERE wanted <> ALL (pbscast.functions()) AND split_part(wanted, '(', 1) NOT IN
               ('functions', 'defects', 'identity', 'heartbeat', 'reclaim', 'set_mode', 'pause', 'resume')), ''), true);
END
$present$;
