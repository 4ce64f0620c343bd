l.kind = $1
AND ($2::text[] IS NULL OR l.id = ANY ($2))
AND ($4::text[] IS NULL OR l.owner = ANY ($4)) -- first of what costs the same: no time is spent on others' jobs
AND ($3::text[] IS NULL OR l.name LIKE ANY ($3))
AND ($5::text[] IS NULL OR l.project = ANY ($5))
AND ($6::text[] IS NULL OR l.queue = ANY ($6))
AND ($7::text[] IS NULL OR l.state = ANY ($7))
AND ($8::text[] IS NULL OR l.reached && $8)
AND ($9::text[] IS NULL OR l.reason = ANY ($9))
AND ($10::integer[] IS NULL OR l.exit_status = ANY ($10))
