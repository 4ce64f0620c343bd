SELECT name, position, epoch, holder, lease_expires, logged, cursor FROM pbscast_log.site ORDER BY name;
