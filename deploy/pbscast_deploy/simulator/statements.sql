-- Every statement of the simulated PBS server, as the connection prepares it. One name, one statement.
--
-- Parameters of a table's statements: its key (the server has none), its columns in the order of the
-- INSERT, the time of the save, for an INSERT the time of creation, and the attributes as an array
-- of keys and values in turn.

-- name: job_insert
INSERT INTO pbs.job (
  ji_jobid, ji_state, ji_substate, ji_svrflags, ji_stime, ji_queue, ji_destin, ji_un_type,
  ji_exitstat, ji_quetime, ji_rteretry, ji_fromsock, ji_fromaddr, ji_jid, ji_credtype, ji_qrank,
  ji_savetm, ji_creattm, attributes
) VALUES (
  $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
  hstore($19::text[])
);

-- name: job_update_full
UPDATE pbs.job SET
  ji_state = $2, ji_substate = $3, ji_svrflags = $4, ji_stime = $5, ji_queue = $6, ji_destin = $7,
  ji_un_type = $8, ji_exitstat = $9, ji_quetime = $10, ji_rteretry = $11, ji_fromsock = $12,
  ji_fromaddr = $13, ji_jid = $14, ji_credtype = $15, ji_qrank = $16, ji_savetm = $17,
  attributes = attributes || hstore($18::text[])
WHERE ji_jobid = $1;

-- name: job_update_quick
UPDATE pbs.job SET
  ji_state = $2, ji_substate = $3, ji_svrflags = $4, ji_stime = $5, ji_queue = $6, ji_destin = $7,
  ji_un_type = $8, ji_exitstat = $9, ji_quetime = $10, ji_rteretry = $11, ji_fromsock = $12,
  ji_fromaddr = $13, ji_jid = $14, ji_credtype = $15, ji_qrank = $16, ji_savetm = $17
WHERE ji_jobid = $1;

-- name: job_update_attributes
UPDATE pbs.job SET
  ji_savetm = $2, attributes = attributes || hstore($3::text[])
WHERE ji_jobid = $1;

-- name: job_remove_attributes
UPDATE pbs.job SET
  ji_savetm = $2, attributes = attributes - $3::text[]
WHERE ji_jobid = $1;

-- name: job_delete
DELETE FROM pbs.job
WHERE ji_jobid = $1;

-- name: job_read
SELECT
  ji_jobid, ji_state, ji_substate, ji_svrflags, ji_stime, ji_queue, ji_destin, ji_un_type,
  ji_exitstat, ji_quetime, ji_rteretry, ji_fromsock, ji_fromaddr, ji_jid, ji_credtype, ji_qrank,
  ji_savetm, ji_creattm
FROM pbs.job
WHERE ji_jobid = $1;

-- name: job_read_attributes
SELECT pair.key, pair.value
FROM pbs.job, each(attributes) AS pair
WHERE ji_jobid = $1;

-- name: queue_insert
INSERT INTO pbs.queue (
  qu_name, qu_type, qu_savetm, qu_creattm, attributes
) VALUES (
  $1, $2, $3, $4, hstore($5::text[])
);

-- name: queue_update_full
UPDATE pbs.queue SET
  qu_type = $2, qu_savetm = $3, attributes = attributes || hstore($4::text[])
WHERE qu_name = $1;

-- name: queue_update_quick
UPDATE pbs.queue SET
  qu_type = $2, qu_savetm = $3
WHERE qu_name = $1;

-- name: queue_update_attributes
UPDATE pbs.queue SET
  qu_savetm = $2, attributes = attributes || hstore($3::text[])
WHERE qu_name = $1;

-- name: queue_remove_attributes
UPDATE pbs.queue SET
  qu_savetm = $2, attributes = attributes - $3::text[]
WHERE qu_name = $1;

-- name: queue_delete
DELETE FROM pbs.queue
WHERE qu_name = $1;

-- name: queue_read
SELECT
  qu_name, qu_type, qu_savetm, qu_creattm
FROM pbs.queue
WHERE qu_name = $1;

-- name: queue_read_attributes
SELECT pair.key, pair.value
FROM pbs.queue, each(attributes) AS pair
WHERE qu_name = $1;

-- name: node_insert
INSERT INTO pbs.node (
  nd_name, mom_modtime, nd_hostname, nd_state, nd_ntype, nd_pque, nd_index, nd_savetm, nd_creattm,
  attributes
) VALUES (
  $1, $2, $3, $4, $5, $6, $7, $8, $9, hstore($10::text[])
);

-- name: node_update_full
UPDATE pbs.node SET
  mom_modtime = $2, nd_hostname = $3, nd_state = $4, nd_ntype = $5, nd_pque = $6, nd_index = $7,
  nd_savetm = $8, attributes = attributes || hstore($9::text[])
WHERE nd_name = $1;

-- name: node_remove_attributes
UPDATE pbs.node SET
  nd_savetm = $2, attributes = attributes - $3::text[]
WHERE nd_name = $1;

-- name: node_delete
DELETE FROM pbs.node
WHERE nd_name = $1;

-- name: node_read
SELECT
  nd_name, mom_modtime, nd_hostname, nd_state, nd_ntype, nd_pque, nd_index, nd_savetm, nd_creattm
FROM pbs.node
WHERE nd_name = $1;

-- name: node_read_attributes
SELECT pair.key, pair.value
FROM pbs.node, each(attributes) AS pair
WHERE nd_name = $1;

-- name: resv_insert
INSERT INTO pbs.resv (
  ri_resvid, ri_queue, ri_state, ri_substate, ri_stime, ri_etime, ri_duration, ri_tactive,
  ri_svrflags, ri_savetm, ri_creattm, attributes
) VALUES (
  $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, hstore($12::text[])
);

-- name: resv_update_full
UPDATE pbs.resv SET
  ri_queue = $2, ri_state = $3, ri_substate = $4, ri_stime = $5, ri_etime = $6, ri_duration = $7,
  ri_tactive = $8, ri_svrflags = $9, ri_savetm = $10,
  attributes = attributes || hstore($11::text[])
WHERE ri_resvid = $1;

-- name: resv_update_quick
UPDATE pbs.resv SET
  ri_queue = $2, ri_state = $3, ri_substate = $4, ri_stime = $5, ri_etime = $6, ri_duration = $7,
  ri_tactive = $8, ri_svrflags = $9, ri_savetm = $10
WHERE ri_resvid = $1;

-- name: resv_update_attributes
UPDATE pbs.resv SET
  ri_savetm = $2, attributes = attributes || hstore($3::text[])
WHERE ri_resvid = $1;

-- name: resv_remove_attributes
UPDATE pbs.resv SET
  ri_savetm = $2, attributes = attributes - $3::text[]
WHERE ri_resvid = $1;

-- name: resv_delete
DELETE FROM pbs.resv
WHERE ri_resvid = $1;

-- name: resv_read
SELECT
  ri_resvid, ri_queue, ri_state, ri_substate, ri_stime, ri_etime, ri_duration, ri_tactive,
  ri_svrflags, ri_savetm, ri_creattm
FROM pbs.resv
WHERE ri_resvid = $1;

-- name: resv_read_attributes
SELECT pair.key, pair.value
FROM pbs.resv, each(attributes) AS pair
WHERE ri_resvid = $1;

-- name: server_insert
INSERT INTO pbs.server (
  sv_jobidnumber, sv_savetm, sv_creattm, attributes
) VALUES (
  $1, $2, $3, hstore($4::text[])
);

-- name: server_update_full
UPDATE pbs.server SET
  sv_jobidnumber = $1, sv_savetm = $2, attributes = attributes || hstore($3::text[]);

-- name: server_remove_attributes
UPDATE pbs.server SET
  sv_savetm = $1, attributes = attributes - $2::text[];

-- name: server_read
SELECT
  sv_jobidnumber, sv_savetm, sv_creattm
FROM pbs.server;

-- name: server_read_attributes
SELECT pair.key, pair.value
FROM pbs.server, each(attributes) AS pair;

-- name: scheduler_insert
INSERT INTO pbs.scheduler (
  sched_name, sched_savetm, sched_creattm, attributes
) VALUES (
  $1, $2, $3, hstore($4::text[])
);

-- name: scheduler_update_attributes
UPDATE pbs.scheduler SET
  sched_savetm = $2, attributes = attributes || hstore($3::text[])
WHERE sched_name = $1;

-- name: scheduler_remove_attributes
UPDATE pbs.scheduler SET
  sched_savetm = $2, attributes = attributes - $3::text[]
WHERE sched_name = $1;

-- name: scheduler_delete
DELETE FROM pbs.scheduler
WHERE sched_name = $1;

-- name: scheduler_read
SELECT
  sched_name, sched_savetm, sched_creattm
FROM pbs.scheduler
WHERE sched_name = $1;

-- name: scheduler_read_attributes
SELECT pair.key, pair.value
FROM pbs.scheduler, each(attributes) AS pair
WHERE sched_name = $1;

-- name: job_scr_insert
INSERT INTO pbs.job_scr (ji_jobid, script) VALUES ($1, $2);

-- name: job_scr_delete
DELETE FROM pbs.job_scr WHERE ji_jobid = $1;
