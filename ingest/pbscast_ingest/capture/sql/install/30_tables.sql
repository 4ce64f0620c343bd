CREATE SCHEMA IF NOT EXISTS pbscast;
ALTER SCHEMA pbscast OWNER TO pbscast_owner;
COMMENT ON SCHEMA pbscast IS 'pbscast: the journal of changes in schema pbs. Trouble? SELECT pbscast.pause(''why''); -- stops it at once. '
    'Remove with: pbscastd source uninstall; by hand: deploy/EMERGENCY.md of pbscast';

-- A journal that is made anew gives its numbers out again: it must not pass for the one before. One that
-- lacks a column says no more what it said.
DO $anew$
BEGIN
    IF (SELECT count(*) FROM pg_catalog.pg_attribute
         WHERE attrelid = to_regclass('pbscast.journal') AND NOT attisdropped
           AND attname IN ('seq', 'xid', 'at', 'op', 'kind', 'key', 'created', 'columns', 'changed', 'before', 'removed', 'context')
       ) < 12 THEN
        DROP TABLE IF EXISTS pbscast.journal;
    END IF;
    IF to_regclass('pbscast.installation') IS NOT NULL
       AND (to_regclass('pbscast.journal') IS NULL OR to_regclass('pbscast.journal_seq') IS NULL) THEN
        DELETE FROM pbscast.installation;
    END IF;
END
$anew$;

-- One row. The incarnation tells this journal from one made anew or restored.
CREATE TABLE IF NOT EXISTS pbscast.installation (
    one          boolean     PRIMARY KEY DEFAULT true CHECK (one),
    version      integer     NOT NULL,           -- of the journal's form; a newer one is left alone
    script       text        NOT NULL,           -- digest of the statements that were run
    site         text        NOT NULL,
    incarnation  text        NOT NULL DEFAULT md5(random()::text || clock_timestamp()::text || pg_backend_pid()::text)::uuid::text,
    reader       text        NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    upgraded_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    functions    text[],                         -- as they were installed; NULL: by a release that did not say
    shape        text,                           -- what capture looked like after the last installation
    replaced     text                            -- and before the first of those since which nobody touched it
);

-- One row: what an administrator may set.
CREATE TABLE IF NOT EXISTS pbscast.control (
    one       boolean PRIMARY KEY DEFAULT true CHECK (one),
    cap_bytes bigint  NOT NULL CHECK (cap_bytes > 0)
);

-- Order of the journal. A row's number is drawn while the changed row is locked, so that for each
-- object the order of seq is the order of the commits.
CREATE SEQUENCE IF NOT EXISTS pbscast.journal_seq CACHE 1;

-- Moves once for each save that could not be written to the journal, nor a gap marker for it; count_loss()
-- says how.
CREATE SEQUENCE IF NOT EXISTS pbscast.gap_seq CACHE 1;

-- Arrays hold key, value, key, value, ... so that nothing here depends on the type hstore.
CREATE TABLE IF NOT EXISTS pbscast.journal (
    seq     bigint      PRIMARY KEY,
    xid     bigint      NOT NULL,                -- txid_current() of the saving transaction
    at      timestamptz NOT NULL,
    op      "char"      NOT NULL,                -- Insert Update Delete Truncate Heartbeat Gap
    kind    text        NOT NULL DEFAULT '',     -- the table; '' for H and G
    key     text        NOT NULL DEFAULT '',     -- the object; the cause for G
    created text        NOT NULL DEFAULT '',     -- its *_creattm
    columns text[]      NOT NULL DEFAULT '{}',   -- I: all, U: those that changed (but attributes, *_savetm)
    changed text[]      NOT NULL DEFAULT '{}',   -- I: all attributes, U: new and changed ones
    before  text[]      NOT NULL DEFAULT '{}',   -- U: what those attributes and columns were
    removed text[]      NOT NULL DEFAULT '{}',   -- U: names of attributes that went
    context text[]                               -- job U, D: what tells the state; G, H: details
);

-- Altering takes locks that a save would wait for, so only what is not as it should be is altered.
DO $form$
DECLARE
    item   record;
    wanted text[] := ARRAY['autovacuum_vacuum_scale_factor=0', 'autovacuum_vacuum_threshold=2000',
                           'autovacuum_analyze_scale_factor=0', 'autovacuum_analyze_threshold=100000'];
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = 'pbscast.installation'::regclass AND attname = 'functions') THEN
        ALTER TABLE pbscast.installation ADD COLUMN functions text[];
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = 'pbscast.installation'::regclass AND attname = 'shape') THEN
        ALTER TABLE pbscast.installation ADD COLUMN shape text, ADD COLUMN replaced text;
    END IF;
    -- To cut the file's end off, vacuum takes a lock that a save would wait for.
    IF current_setting('server_version_num')::integer >= 120000 THEN
        wanted := wanted || ARRAY['vacuum_truncate=false', 'toast.vacuum_truncate=false'];
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = 'pbscast.journal'::regclass
                      AND reloptions @> (SELECT array_agg(w) FROM unnest(wanted) AS w WHERE w NOT LIKE 'toast.%')) THEN
        EXECUTE format('ALTER TABLE pbscast.journal SET (%s)', array_to_string(wanted, ', '));
    END IF;
    FOR item IN
        SELECT c.relkind AS kind, c.oid::regclass AS name
          FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
         WHERE c.relnamespace = 'pbscast'::regnamespace AND c.relkind IN ('r', 'S') AND r.rolname <> 'pbscast_owner'
    LOOP
        EXECUTE format('ALTER %s %s OWNER TO pbscast_owner', CASE item.kind WHEN 'r' THEN 'TABLE' ELSE 'SEQUENCE' END, item.name);
    END LOOP;
END
$form$;

-- What is not asked for stays as it is; 1 GiB at first.
INSERT INTO pbscast.control (cap_bytes)
SELECT coalesce(nullif(current_setting('pbscast.install_cap_bytes'), '')::bigint,
                (SELECT cap_bytes FROM pbscast.control), 1073741824)
ON CONFLICT (one) DO UPDATE SET cap_bytes = excluded.cap_bytes;
