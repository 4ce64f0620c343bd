CREATE SCHEMA IF NOT EXISTS pbscast_log;
CREATE TABLE IF NOT EXISTS pbscast_log.migration (
    number     integer PRIMARY KEY,
    name       text COLLATE "C" NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
