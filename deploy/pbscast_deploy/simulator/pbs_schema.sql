-- The tables that a PBS server of datastore schema 1.5.0 keeps, as far as an observer can tell.
-- Written for the simulator from the recorded rows; a real PBS installs its own file.

CREATE EXTENSION IF NOT EXISTS hstore;

CREATE SCHEMA pbs;

CREATE TABLE pbs.info (
  pbs_schema_version text NOT NULL
);

INSERT INTO pbs.info (pbs_schema_version) VALUES ('1.5.0');

CREATE TABLE pbs.server (
  sv_jobidnumber bigint NOT NULL,
  sv_savetm timestamp NOT NULL,
  sv_creattm timestamp NOT NULL,
  attributes hstore NOT NULL DEFAULT ''
);

CREATE TABLE pbs.scheduler (
  sched_name text PRIMARY KEY,
  sched_savetm timestamp NOT NULL,
  sched_creattm timestamp NOT NULL,
  attributes hstore NOT NULL DEFAULT ''
);

CREATE TABLE pbs.mominfo_time (
  mit_time bigint,
  mit_gen integer
);

CREATE TABLE pbs.node (
  nd_name text PRIMARY KEY,
  mom_modtime bigint,
  nd_hostname text NOT NULL,
  nd_state integer NOT NULL,
  nd_ntype integer NOT NULL,
  nd_pque text,
  nd_index integer NOT NULL,
  nd_savetm timestamp NOT NULL,
  nd_creattm timestamp NOT NULL,
  attributes hstore NOT NULL DEFAULT ''
);

CREATE TABLE pbs.queue (
  qu_name text PRIMARY KEY,
  qu_type integer NOT NULL,
  qu_savetm timestamp NOT NULL,
  qu_creattm timestamp NOT NULL,
  attributes hstore NOT NULL DEFAULT ''
);

CREATE TABLE pbs.resv (
  ri_resvid text PRIMARY KEY,
  ri_queue text NOT NULL,
  ri_state integer NOT NULL,
  ri_substate integer NOT NULL,
  ri_stime bigint NOT NULL,
  ri_etime bigint NOT NULL,
  ri_duration bigint NOT NULL,
  ri_tactive integer NOT NULL,
  ri_svrflags integer NOT NULL,
  ri_savetm timestamp NOT NULL,
  ri_creattm timestamp NOT NULL,
  attributes hstore NOT NULL DEFAULT ''
);

CREATE TABLE pbs.job (
  ji_jobid text PRIMARY KEY,
  ji_state integer NOT NULL,
  ji_substate integer NOT NULL,
  ji_svrflags integer NOT NULL,
  ji_stime bigint,
  ji_queue text NOT NULL,
  ji_destin text,
  ji_un_type integer NOT NULL,
  ji_exitstat integer,
  ji_quetime bigint,
  ji_rteretry bigint,
  ji_fromsock integer,
  ji_fromaddr bigint,
  ji_jid text,
  ji_credtype integer,
  ji_qrank bigint NOT NULL,
  ji_savetm timestamp NOT NULL,
  ji_creattm timestamp NOT NULL,
  attributes hstore NOT NULL DEFAULT ''
);

CREATE INDEX job_rank ON pbs.job (ji_qrank);

CREATE TABLE pbs.job_scr (
  ji_jobid text NOT NULL,
  script text
);

CREATE INDEX job_scr_job ON pbs.job_scr (ji_jobid);
