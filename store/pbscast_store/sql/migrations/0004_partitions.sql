-- The log in partitions, one for each month (UTC) in which events were logged. `logged` never goes back along the positions
-- of a site, so a partition holds a run of each site's positions.

LOCK TABLE pbscast_log.site, pbscast_log.event IN ACCESS EXCLUSIVE MODE;

ALTER TABLE pbscast_log.event RENAME TO event_before;
ALTER INDEX pbscast_log.event_history RENAME TO event_before_history;

CREATE TABLE pbscast_log.event (LIKE pbscast_log.event_before INCLUDING COMMENTS) PARTITION BY RANGE (logged);
CREATE INDEX event_history ON pbscast_log.event (id, kind, site, position);
COMMENT ON TABLE pbscast_log.event IS 'The log. A row is never changed.';
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON pbscast_log.event
    FOR EACH STATEMENT EXECUTE FUNCTION pbscast_log.refuse_change();

-- Its CHECK spares the first partition a scan; afterwards the bounds say the same.

DO $$
DECLARE
    upper timestamptz := (
        SELECT substring(pg_get_constraintdef(oid) FROM '''(.*)''')::timestamptz
        FROM pg_constraint
        WHERE conrelid = 'pbscast_log.event_before'::regclass AND conname = 'event_logged'
    );
    name text := to_char((upper AT TIME ZONE 'UTC') - interval '1 month', '"event_p"YYYYMM');
BEGIN
    EXECUTE format(
        'ALTER TABLE pbscast_log.event ATTACH PARTITION pbscast_log.event_before FOR VALUES FROM (MINVALUE) TO (%L)', upper
    );
    ALTER TABLE pbscast_log.event_before DROP CONSTRAINT event_logged;
    EXECUTE format('ALTER TABLE pbscast_log.event_before RENAME CONSTRAINT event_pkey TO %I', name || '_pkey');
    EXECUTE format('ALTER INDEX pbscast_log.event_before_history RENAME TO %I', name || '_history');
    EXECUTE format('ALTER TABLE pbscast_log.event_before RENAME TO %I', name);
END
$$;

-- The partition of a month, if no partition has it. ATTACH, unlike CREATE … PARTITION OF, lets others read and write meanwhile.

CREATE FUNCTION pbscast_log.make_partition(month timestamp) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    partition text := to_char(month, '"event_p"YYYYMM');
BEGIN
    IF to_regclass(format('pbscast_log.%I', partition)) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format(
        'CREATE TABLE pbscast_log.%I (LIKE pbscast_log.event, CONSTRAINT %I PRIMARY KEY (site, position), CHECK (digest IS NOT NULL))',
        partition, partition || '_pkey'
    );
    EXECUTE format('CREATE INDEX %I ON pbscast_log.%I (id, kind, site, position)', partition || '_history', partition);
    EXECUTE format(
        'CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON pbscast_log.%I'
        ' FOR EACH STATEMENT EXECUTE FUNCTION pbscast_log.refuse_change()',
        partition
    );
    EXECUTE format(
        'ALTER TABLE pbscast_log.event ATTACH PARTITION pbscast_log.%I FOR VALUES FROM (%L) TO (%L)',
        partition, month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC'
    );
    RETURN true;
EXCEPTION
    WHEN invalid_object_definition THEN  -- it would overlap one that reaches further
        RETURN false;
END
$$;
REVOKE EXECUTE ON FUNCTION pbscast_log.make_partition(timestamp) FROM PUBLIC;

-- From now on, and from where each site's log ends, should that be in the future because a clock was wrong. What a writer's role
-- can do to the schema is bounded: a year of partitions, and no lock that others could keep from it, as any role can take an advisory
-- one. This one lets the table be read, and whoever may only read or write the log cannot take it.

CREATE FUNCTION pbscast_log.make_partitions(ahead interval) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
BEGIN
    IF ahead > interval '1 year' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'partitions are made for a year ahead at most';
    END IF;
    LOCK TABLE pbscast_log.migration IN SHARE UPDATE EXCLUSIVE MODE;
    RETURN (
        SELECT count(*) FILTER (WHERE pbscast_log.make_partition(month))
        FROM (
            SELECT DISTINCT generate_series(date_trunc('month', since), since + ahead, interval '1 month') AS month
            FROM (
                SELECT clock_timestamp() AT TIME ZONE 'UTC'
                UNION ALL
                SELECT logged AT TIME ZONE 'UTC' FROM pbscast_log.site WHERE logged > clock_timestamp()
            ) AS anchor (since)
        ) AS wanted
    );
END
$$;
REVOKE EXECUTE ON FUNCTION pbscast_log.make_partitions(interval) FROM PUBLIC;
COMMENT ON FUNCTION pbscast_log.make_partitions(interval) IS 'Makes the partitions of this month and those of so much time ahead; returns how many were missing.';

SELECT pbscast_log.make_partitions('3 months');

CREATE OR REPLACE FUNCTION pbscast_log.grant_writer(role name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pbscast_log.grant_reader(role);
    EXECUTE format('GRANT INSERT ON pbscast_log.event TO %I', role);
    EXECUTE format('GRANT INSERT, UPDATE ON pbscast_log.site, pbscast_log.object TO %I', role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION pbscast_log.make_partitions(interval) TO %I', role);
END
$$;

-- Migrations that add or replace a table end with this: whoever could read or write the log still can.

CREATE FUNCTION pbscast_log.grant_again() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    held record;
BEGIN
    FOR held IN
        SELECT role.rolname AS role, bool_or(acl.privilege_type = 'UPDATE') AS writes
        FROM pg_class
        CROSS JOIN aclexplode(relacl) AS acl
        JOIN pg_roles AS role ON role.oid = acl.grantee
        WHERE pg_class.oid = 'pbscast_log.site'::regclass AND acl.grantee <> relowner
        GROUP BY role.rolname
        HAVING bool_or(acl.privilege_type = 'SELECT')
    LOOP
        IF held.writes THEN
            PERFORM pbscast_log.grant_writer(held.role);
        ELSE
            PERFORM pbscast_log.grant_reader(held.role);
        END IF;
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION pbscast_log.grant_again() FROM PUBLIC;
SELECT pbscast_log.grant_again();
