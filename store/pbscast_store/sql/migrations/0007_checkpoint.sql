-- Signed checkpoints: how far a site's log went and what its digest was, signed by who holds the key, so that a log that
-- was rewritten as a whole, its chain with it, does not agree with them.

CREATE TABLE pbscast_log.checkpoint (
    site          text COLLATE "C" NOT NULL,
    number        bigint NOT NULL CHECK (number > 0),
    position      bigint NOT NULL,
    chained_after bigint NOT NULL,
    logged        timestamptz NOT NULL,
    signed        timestamptz NOT NULL,
    digest        bytea NOT NULL,
    key_id        text COLLATE "C" NOT NULL,
    signature     bytea NOT NULL,
    PRIMARY KEY (site, number)
);
COMMENT ON TABLE pbscast_log.checkpoint IS 'What was signed of each site''s log. A row is never changed.';
COMMENT ON COLUMN pbscast_log.checkpoint.number IS '1, 2, 3 … per site without gaps.';
COMMENT ON COLUMN pbscast_log.checkpoint.position IS 'Of the last event at that time; digest and logged are its own.';
COMMENT ON COLUMN pbscast_log.checkpoint.signed IS 'When, by the clock of who signed.';
COMMENT ON COLUMN pbscast_log.checkpoint.key_id IS 'The first 16 hexadecimal digits of the SHA-256 of the public key (DER).';
COMMENT ON COLUMN pbscast_log.checkpoint.signature IS 'Ed25519, of the canonical form of the other columns.';

CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON pbscast_log.checkpoint
    FOR EACH STATEMENT EXECUTE FUNCTION pbscast_log.refuse_change();

-- As the canonical forms tell a time, in microseconds since 1970-01-01 UTC, and something too for one that is not finite.
-- STABLE as `extract` is: it would not be inlined otherwise, which costs five times as much.

CREATE FUNCTION pbscast_log.microseconds(moment timestamptz) RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE moment
        WHEN 'infinity' THEN 9223372036854775807
        WHEN '-infinity' THEN -9223372036854775808
        ELSE (extract(epoch FROM moment) * 1000000)::bigint
    END
$$;

-- Who signs need not be who writes: a right of its own, for the role of the daemon that has the key.

CREATE FUNCTION pbscast_log.grant_signer(role name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pbscast_log.grant_reader(role);
    EXECUTE format('GRANT INSERT ON pbscast_log.checkpoint TO %I', role);
END
$$;
REVOKE EXECUTE ON FUNCTION pbscast_log.grant_signer(name) FROM PUBLIC;

SELECT pbscast_log.grant_again();
