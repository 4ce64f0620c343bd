-- With all functions that are not those that were installed: defects() names only what a save needs.
SELECT i.version, i.script, i.site, i.reader, i.upgraded_at::timestamp(0)::text,
       pbscast.identity(),
       ARRAY(SELECT d FROM pbscast.defects() AS d WHERE d LIKE 'pbs.%%'
             UNION ALL
             SELECT format('pbscast.%%s: %%s', split_part(wanted, ' = ', 1),
                           CASE WHEN found IS NULL THEN 'is missing' ELSE 'was replaced' END)
               FROM unnest(i.functions) AS wanted
               LEFT JOIN unnest(pbscast.functions()) AS found ON split_part(found, ' = ', 1) = split_part(wanted, ' = ', 1)
              WHERE found IS DISTINCT FROM wanted)
  FROM pbscast.installation i
