-- Rows are only ever added; after a restore there may be fewer.
SELECT count(*) AS number, max(registered) AS newest FROM pbscast_log.archive;
