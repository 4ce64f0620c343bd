SELECT name, position, epoch, holder, lease_expires, logged FROM pbscast_log.site ORDER BY name;
