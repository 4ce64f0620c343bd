LOCK TABLE pbs.job, pbs.queue, pbs.node, pbs.resv, pbs.server, pbs.scheduler IN SHARE ROW EXCLUSIVE MODE;
