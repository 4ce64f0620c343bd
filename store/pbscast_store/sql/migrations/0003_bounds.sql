-- Reads the whole log; meanwhile it can be read by others.

ALTER TABLE pbscast_log.event VALIDATE CONSTRAINT event_logged;
