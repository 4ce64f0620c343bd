-- What a writer's role can do to the schema is bounded: a year of partitions, and no lock that others could keep from it, as any
-- role can take an advisory one. This one lets the table be read, and whoever may only read or write the log cannot take it.

CREATE OR REPLACE FUNCTION pbscast_log.make_partitions(ahead interval) RETURNS integer
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
