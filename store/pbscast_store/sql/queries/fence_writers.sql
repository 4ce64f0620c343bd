-- No append is under way from here on until the transaction ends, and none under a lease that was given before it.
LOCK TABLE pbscast_log.site IN SHARE ROW EXCLUSIVE MODE;
UPDATE pbscast_log.site SET epoch = epoch + 1;
