-- Functions that the triggers call, and those for the reader and the administrator.

-- The switch: 0 capture and ring the doorbell, 1 paused, 2 capture without the doorbell, 3 both. A
-- function, because the triggers' plans take it in as a constant and are made anew when it is
-- replaced: looking at it costs nothing, turning it needs no lock and works at once.
CREATE OR REPLACE FUNCTION pbscast.set_mode(mode integer)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $set_mode$
BEGIN
    EXECUTE format('CREATE OR REPLACE FUNCTION pbscast.mode() RETURNS integer LANGUAGE sql STABLE AS %L',
                   'SELECT ' || mode);
    IF NOT EXISTS (SELECT FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner
                    WHERE p.oid = to_regprocedure('pbscast.mode()') AND r.rolname = 'pbscast_owner') THEN
        ALTER FUNCTION pbscast.mode() OWNER TO pbscast_owner; -- it was missing
    END IF;
END
$set_mode$;

-- A pause outlives an upgrade; the doorbell is as this call wants it, or as it was.
DO $mode$
DECLARE
    wanted integer := CASE current_setting('pbscast.install_notify') WHEN 'true' THEN 0 WHEN 'false' THEN 2 END;
    found  integer := 0;
BEGIN
    IF to_regprocedure('pbscast.mode()') IS NOT NULL THEN
        found := pbscast.mode();
    END IF;
    PERFORM pbscast.set_mode((found & 1) | coalesce(wanted, found & 2));
END
$mode$;

-- The number of a row that no row trigger writes: those look at the journal's size at every number that
-- 64 divides, so none of these is given to others.
CREATE OR REPLACE FUNCTION pbscast.next_seq()
RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $next_seq$
DECLARE
    drawn bigint := nextval('pbscast.journal_seq');
BEGIN
    RETURN CASE WHEN drawn % 64 = 0 THEN nextval('pbscast.journal_seq') ELSE drawn END;
END
$next_seq$;

-- Writes a gap marker: from `since` until now changes may be missing. Phase begin, end or point.
CREATE OR REPLACE FUNCTION pbscast.mark_gap(cause text, phase text, since timestamptz, details text[])
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' AS $mark_gap$
BEGIN
    PERFORM txid_current();
    INSERT INTO pbscast.journal (seq, xid, at, op, key, context)
    VALUES (pbscast.next_seq(), txid_current(), clock_timestamp(), 'G', cause,
            ARRAY['phase', phase, 'since', coalesce(since, clock_timestamp())::text] || details);
END
$mark_gap$;

-- Counts a save of which nothing is written. Not by nextval: for that PostgreSQL notes only every 32nd number
-- in its WAL, so after a crash the sequence would go on up to 32 further, and nobody could say how many of
-- these were losses. What setval sets is noted as it is. A clock's last digits stand below the count, so that
-- the value moves even where two sessions count at once. One that is small is of a release that used nextval.
CREATE OR REPLACE FUNCTION pbscast.count_loss()
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $count_loss$
BEGIN
    PERFORM setval('pbscast.gap_seq',
                   ((CASE WHEN last_value >= 16777216 THEN last_value >> 24 WHEN is_called THEN last_value ELSE 0 END + 1) << 24)
                   | ((extract(epoch FROM clock_timestamp()) * 1000000)::bigint & 16777215))
       FROM pbscast.gap_seq;
END
$count_loss$;

-- A session that could not write owes a gap marker. The debt is its setting pbscast.owed: cause,
-- since, next try (seconds of the epoch), and `mute` once the counter of losses failed as well.
-- Until the next try, a second later, its saves only move that counter: a locked journal costs PBS
-- one short wait a second, not one for each save. A try that is further ahead is of before the clock was
-- set back.
CREATE OR REPLACE FUNCTION pbscast.lose(cause text, retry boolean)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $lose$
DECLARE
    owed  text[]  := string_to_array(nullif(current_setting('pbscast.owed', true), ''), ' ');
    clock numeric := extract(epoch FROM clock_timestamp())::numeric;
BEGIN
    owed := ARRAY[coalesce(owed[1], cause), coalesce(owed[2], clock::text),
                  CASE WHEN retry THEN (clock + 1)::text ELSE owed[3] END, owed[4]];
    PERFORM set_config('pbscast.owed', array_to_string(owed, ' '), false);
    IF owed[4] IS NULL OR retry THEN
        PERFORM pbscast.count_loss();
    END IF;
EXCEPTION WHEN query_canceled OR OTHERS THEN
    PERFORM set_config('pbscast.owed', array_to_string(owed[1:3] || 'mute'::text, ' '), false);
END
$lose$;

-- The journal's cap; NULL where nobody can say it: its table is gone, empty, or not to be read. Somebody
-- who locks that is waited for like any other lock.
CREATE OR REPLACE FUNCTION pbscast.cap()
RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $cap$
BEGIN
    RETURN (SELECT cap_bytes FROM pbscast.control);
EXCEPTION
    WHEN lock_not_available THEN RAISE;
    WHEN OTHERS THEN RETURN NULL;
END
$cap$;

-- No cap that can be read is one of nothing: rather no journal than one that grows for ever.
CREATE OR REPLACE FUNCTION pbscast.is_full()
RETURNS boolean LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp AS $is_full$
    SELECT pg_total_relation_size('pbscast.journal') > coalesce(pbscast.cap(), 0)
$is_full$;

-- Called by the triggers when the switch is not at 0 or the session owes a marker. True: do not write.
CREATE OR REPLACE FUNCTION pbscast.hold_back()
RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $hold_back$
DECLARE
    owed text[] := string_to_array(nullif(current_setting('pbscast.owed', true), ''), ' ');
BEGIN
    IF extract(epoch FROM clock_timestamp())::numeric BETWEEN owed[3]::numeric - 1 AND owed[3]::numeric THEN
        PERFORM pbscast.lose(owed[1], false);
        RETURN true;
    ELSIF pbscast.mode() & 1 = 1 THEN
        RETURN true;
    ELSIF owed IS NULL THEN
        RETURN false;
    ELSIF owed[1] = 'full' AND pbscast.is_full() THEN
        PERFORM pbscast.lose('full', true);
        RETURN true;
    END IF;
    PERFORM pbscast.mark_gap(owed[1], 'end', to_timestamp(owed[2]::double precision),
                             CASE WHEN owed[4] IS NULL THEN '{}' ELSE ARRAY['mute', 'true'] END),
            set_config('pbscast.owed', '', false);
    RETURN false;
END
$hold_back$;

-- Called when a save could not be journalled. A lock makes a debt, for it may cost time again. Any other
-- error costs none, and a table whose trigger fails must not cost the others their changes: a marker at
-- once, at most one a minute, and the counter for those between. The session's setting pbscast.erred
-- says when the last marker was written, and when its plans were thrown away: a plan made before PBS
-- altered a column's type fails for ever, and nothing else would have it made anew.
CREATE OR REPLACE FUNCTION pbscast.note_loss(state text, message text, kind text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $note_loss$
DECLARE
    erred numeric[] := string_to_array(nullif(current_setting('pbscast.erred', true), ''), ' ');
    clock numeric   := extract(epoch FROM clock_timestamp())::numeric;
BEGIN
    IF state IN ('55P03', '57014') OR current_setting('pbscast.owed', true) <> '' THEN
        PERFORM pbscast.lose(CASE state WHEN '55P03' THEN 'lock' ELSE 'error' END, true);
        RETURN;
    END IF;
    IF clock BETWEEN erred[1] AND erred[1] + 60 THEN
        PERFORM pbscast.count_loss();
    ELSE
        PERFORM pbscast.mark_gap('error', 'point', clock_timestamp(),
                                 ARRAY['sqlstate', state, 'message', left(message, 500), 'table', kind]);
        erred[1] := clock;
        PERFORM pbscast.watch_size();
    END IF;
    IF (clock BETWEEN erred[2] AND erred[2] + 1) IS NOT TRUE THEN
        erred[2] := clock;
        DISCARD PLANS;
    END IF;
    PERFORM set_config('pbscast.erred', array_to_string(erred, ' '), false);
EXCEPTION WHEN query_canceled OR OTHERS THEN
    PERFORM pbscast.lose('error', true);
END
$note_loss$;

-- Called for every 64th row and every large one. Beyond the cap the session stops writing, with one marker.
-- Where the size cannot be looked at, because of a lock, it does not look again for a second (its setting
-- pbscast.unseen), nor does it stop before the journal is as large as the least cap.
CREATE OR REPLACE FUNCTION pbscast.watch_size()
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $watch_size$
DECLARE
    clock numeric := extract(epoch FROM clock_timestamp())::numeric;
    again numeric := nullif(current_setting('pbscast.unseen', true), '');
    ample boolean;
BEGIN
    IF clock BETWEEN again - 1 AND again THEN
        RETURN;
    END IF;
    BEGIN
        ample := NOT pbscast.is_full();
    EXCEPTION WHEN query_canceled OR OTHERS THEN
        PERFORM set_config('pbscast.unseen', (clock + 1)::text, false);
        ample := pg_total_relation_size('pbscast.journal') <= 67108864;
    END;
    IF NOT ample THEN
        PERFORM pbscast.mark_gap('full', 'begin', clock_timestamp(), '{}'),
                set_config('pbscast.owed', format('full %s %s', clock, clock + 1), false);
    END IF;
EXCEPTION WHEN query_canceled OR OTHERS THEN
    NULL; -- not known this time; the row itself is written
END
$watch_size$;

-- TRUNCATE shows in no row trigger (pbs_server -t create).
CREATE OR REPLACE FUNCTION pbscast.capture_truncate()
RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '50ms' AS $capture_truncate$
BEGIN
    IF (current_setting('pbscast.owed', true) <> '' OR pbscast.mode() <> 0)
       AND pbscast.hold_back() THEN
        RETURN NULL;
    END IF;
    PERFORM txid_current();
    INSERT INTO pbscast.journal (seq, xid, at, op, kind)
    VALUES (pbscast.next_seq(), txid_current(), clock_timestamp(), 'T', TG_TABLE_NAME);
    PERFORM pbscast.ring();
    RETURN NULL;
EXCEPTION WHEN query_canceled OR assert_failure OR OTHERS THEN
    BEGIN
        PERFORM pbscast.note_loss(SQLSTATE, SQLERRM, TG_TABLE_NAME);
    EXCEPTION WHEN query_canceled OR assert_failure OR OTHERS THEN
        NULL;
    END;
    RETURN NULL;
END
$capture_truncate$;

-- The doorbell. A full notification queue is an error at COMMIT, where nothing could catch it.
CREATE OR REPLACE FUNCTION pbscast.ring()
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $ring$
BEGIN
    IF pbscast.mode() & 2 = 0 AND pg_notification_queue_usage() < 0.1 THEN
        PERFORM pg_notify('pbscast', '');
    END IF;
END
$ring$;

-- For the reader: tells the journal of this cluster and installation from any other.
CREATE OR REPLACE FUNCTION pbscast.identity()
RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $identity$
    SELECT c.system_identifier::text || ':' || i.incarnation
      FROM pg_control_system() AS c, pbscast.installation AS i
$identity$;

-- For the reader: what of schema pbs is not captured, one line for each table, which of the functions
-- that a save needs are not those that were installed, and which rights it lacks; no rows if all is well.
CREATE OR REPLACE FUNCTION pbscast.defects()
RETURNS SETOF text LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $defects$
    SELECT format('pbs.%s: %s', kind, CASE WHEN c.oid IS NULL THEN 'no such table'
                                           WHEN count(t.oid) = 0 THEN 'no triggers'
                                           ELSE 'a trigger is missing or disabled' END)
      FROM unnest(ARRAY['job', 'queue', 'node', 'resv', 'server', 'scheduler']) AS kind
      LEFT JOIN pg_namespace n ON n.nspname = 'pbs'
      LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = kind
      LEFT JOIN (pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
                              JOIN pg_namespace o ON o.oid = p.pronamespace AND o.nspname = 'pbscast')
             ON t.tgrelid = c.oid AND t.tgenabled = 'A'
            AND (t.tgname, p.proname) IN (('pbscast_row', 'capture_' || kind), ('pbscast_truncate', 'capture_truncate'))
     GROUP BY kind, c.oid
    HAVING count(t.oid) < 2
     UNION ALL
    SELECT format('pbscast.%s: %s', split_part(wanted, ' = ', 1),
                  CASE WHEN found IS NULL THEN 'is missing' ELSE 'was replaced' END)
      FROM pbscast.installation AS i
     CROSS JOIN unnest(i.functions) AS wanted
      LEFT JOIN unnest(pbscast.functions()) AS found ON split_part(found, ' = ', 1) = split_part(wanted, ' = ', 1)
     WHERE found IS DISTINCT FROM wanted AND split_part(wanted, '(', 1) NOT IN
           ('functions', 'missing_rights', 'defects', 'shape', 'identity', 'heartbeat', 'reclaim', 'set_mode', 'pause', 'resume')
     UNION ALL
    SELECT 'pbscast.control: its cap cannot be read, the triggers stop writing' WHERE pbscast.cap() IS NULL
     UNION ALL
    SELECT pbscast.missing_rights()
$defects$;

-- For the reader: a row that travels the journal, so that silence is told from death; NULL if there
-- is no room for one. Also ends the state `full`: only then is the journal truncated, and only once
-- everything was read and trimmed. The last row read is not trimmed before a later one is read, so
-- where few rows fill the journal another is written: that one.
CREATE OR REPLACE FUNCTION pbscast.heartbeat()
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '50ms' AS $heartbeat$
DECLARE
    beat bigint;
BEGIN
    PERFORM txid_current();
    IF pbscast.is_full() THEN
        PERFORM pbscast.reclaim();
        IF pbscast.is_full() AND (SELECT count(*) > 64 FROM (SELECT FROM pbscast.journal LIMIT 65) AS bounded) THEN
            RETURN NULL;
        END IF;
    END IF;
    -- A block of its own, as the triggers have: its row's xmin is a subtransaction's, drawn like theirs.
    BEGIN
        INSERT INTO pbscast.journal (seq, xid, at, op, context)
        VALUES (pbscast.next_seq(), txid_current(), clock_timestamp(), 'H',
                ARRAY(SELECT pbscast.defects()))
        RETURNING seq INTO beat;
    EXCEPTION WHEN OTHERS THEN
        RAISE;
    END;
    PERFORM pbscast.ring();
    RETURN beat;
END
$heartbeat$;

-- Gives the space of a trimmed journal back. Sessions that found it full do not write to it, so the
-- lock meets nobody; if it does, the next heartbeat tries again. The few rows that are still there
-- (the reader leaves its last one) stay. The end is marked by the session that found it full.
CREATE OR REPLACE FUNCTION pbscast.reclaim()
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $reclaim$
DECLARE
    kept pbscast.journal[];
BEGIN
    LOCK TABLE pbscast.journal IN ACCESS EXCLUSIVE MODE NOWAIT;
    IF (SELECT count(*) FROM (SELECT FROM pbscast.journal LIMIT 65) AS bounded) < 65 THEN
        kept := ARRAY(SELECT j FROM pbscast.journal AS j);
        TRUNCATE pbscast.journal;
        INSERT INTO pbscast.journal SELECT (k).* FROM unnest(kept) AS k;
    END IF;
EXCEPTION WHEN lock_not_available THEN
    NULL;
END
$reclaim$;

-- For the administrator: the kill switch, at once and for every session. It waits for nobody but another
-- transaction that turns it or installs, and gives up after 50 ms: run it again.
CREATE OR REPLACE FUNCTION pbscast.pause(why text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET lock_timeout = '50ms' AS $pause$
BEGIN
    IF to_regprocedure('pbscast.mode()') IS NULL THEN
        PERFORM pbscast.set_mode(1);
    ELSIF pbscast.mode() & 1 = 1 THEN
        RETURN;
    ELSE
        PERFORM pbscast.set_mode(pbscast.mode() | 1);
    END IF;
    BEGIN
        PERFORM pbscast.mark_gap('pause', 'begin', clock_timestamp(), ARRAY['why', why]);
    EXCEPTION WHEN OTHERS THEN
        PERFORM pbscast.count_loss();
    END;
    PERFORM pbscast.ring();
END
$pause$;

CREATE OR REPLACE FUNCTION pbscast.resume()
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET lock_timeout = '50ms' AS $resume$
BEGIN
    IF pbscast.mode() & 1 = 0 THEN
        RETURN;
    END IF;
    PERFORM pbscast.set_mode(pbscast.mode() & 2);
    BEGIN
        PERFORM pbscast.mark_gap('pause', 'end', clock_timestamp(), '{}');
    EXCEPTION WHEN OTHERS THEN
        PERFORM pbscast.count_loss();
    END;
    PERFORM pbscast.ring();
END
$resume$;
