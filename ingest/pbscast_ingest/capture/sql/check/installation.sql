SELECT i.version, i.script, i.site, i.reader, i.upgraded_at::timestamp(0)::text,
       pbscast.identity(), ARRAY(SELECT pbscast.defects())
  FROM pbscast.installation i
