-- Which archives may have been thinned: of any other each payload has to be there. A row is made before an archive is thinned.

CREATE TABLE pbscast_log.thinning (
    site           text COLLATE "C" NOT NULL,
    first_position bigint NOT NULL,
    decided        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (site, first_position),
    FOREIGN KEY (site, first_position) REFERENCES pbscast_log.archive (site, first_position)
);
COMMENT ON TABLE pbscast_log.thinning IS 'Archives that may have been thinned. A row is made before that is done.';

-- Of those that there are nobody noted it.
INSERT INTO pbscast_log.thinning (site, first_position) SELECT site, first_position FROM pbscast_log.archive;

CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON pbscast_log.thinning
    FOR EACH STATEMENT EXECUTE FUNCTION pbscast_log.refuse_change();

SELECT pbscast_log.grant_again();
