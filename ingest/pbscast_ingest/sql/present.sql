-- Which of these keys are there; and all that are long, where one is asked for that was shortened. The branches of other
-- kinds are not run.
SELECT found.key
FROM (
    SELECT ji_jobid AS key
    FROM pbs.job
    WHERE %(kind)s = 'job' AND ji_jobid = ANY (ARRAY(SELECT convert_from(raw, 'SQL_ASCII') COLLATE "default" FROM unnest(%(keys)s::bytea[]) AS raw))
    UNION ALL
    SELECT ji_jobid
    FROM pbs.job
    WHERE %(kind)s = 'job' AND %(long)s AND octet_length(ji_jobid) >= %(length)s
    UNION ALL
    SELECT qu_name AS key
    FROM pbs.queue
    WHERE %(kind)s = 'queue' AND qu_name = ANY (ARRAY(SELECT convert_from(raw, 'SQL_ASCII') COLLATE "default" FROM unnest(%(keys)s::bytea[]) AS raw))
    UNION ALL
    SELECT qu_name
    FROM pbs.queue
    WHERE %(kind)s = 'queue' AND %(long)s AND octet_length(qu_name) >= %(length)s
    UNION ALL
    SELECT nd_name AS key
    FROM pbs.node
    WHERE %(kind)s = 'node' AND nd_name = ANY (ARRAY(SELECT convert_from(raw, 'SQL_ASCII') COLLATE "default" FROM unnest(%(keys)s::bytea[]) AS raw))
    UNION ALL
    SELECT nd_name
    FROM pbs.node
    WHERE %(kind)s = 'node' AND %(long)s AND octet_length(nd_name) >= %(length)s
    UNION ALL
    SELECT ri_resvid AS key
    FROM pbs.resv
    WHERE %(kind)s = 'resv' AND ri_resvid = ANY (ARRAY(SELECT convert_from(raw, 'SQL_ASCII') COLLATE "default" FROM unnest(%(keys)s::bytea[]) AS raw))
    UNION ALL
    SELECT ri_resvid
    FROM pbs.resv
    WHERE %(kind)s = 'resv' AND %(long)s AND octet_length(ri_resvid) >= %(length)s
    UNION ALL
    SELECT sched_name AS key
    FROM pbs.scheduler
    WHERE %(kind)s = 'scheduler' AND sched_name = ANY (ARRAY(SELECT convert_from(raw, 'SQL_ASCII') COLLATE "default" FROM unnest(%(keys)s::bytea[]) AS raw))
    UNION ALL
    SELECT sched_name
    FROM pbs.scheduler
    WHERE %(kind)s = 'scheduler' AND %(long)s AND octet_length(sched_name) >= %(length)s
    UNION ALL
    SELECT '' FROM pbs.server WHERE %(kind)s = 'server'
) AS found
