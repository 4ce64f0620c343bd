-- The row trigger function: one text for all six tables, in which <table>, <key> (the expression for
-- the object's name), <created>, <saved>, <context of r> and <hstore> (the schema of the extension)
-- are filled in. What PBS's other columns are called does not matter.
--
-- It runs inside each of PBS's saves, so: nothing leaves the block; no variable is of type hstore
-- (an unknown type would be an error outside the block); every name is qualified instead of setting
-- search_path, and the hot way is few expressions, because each costs at first use in a transaction.
DO $row_triggers$
DECLARE
    body constant text := $template$
DECLARE
    fresh   record;
    stale   record;
    columns text[] := '{}';
    was     text[] := '{}';
    drawn   bigint;
BEGIN
    IF (pg_catalog.current_setting('pbscast.owed', true) OPERATOR(pg_catalog.<>) ''
        OR pg_catalog.pg_sequence_last_value('pbscast.mode') OPERATOR(pg_catalog.<>) 0)
       AND pbscast.hold_back() THEN
        RETURN NULL;
    END IF;
    IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
        fresh := NEW; fresh.attributes := NULL; fresh.<saved> := NULL;
        stale := OLD; stale.attributes := NULL; stale.<saved> := NULL;
        IF fresh OPERATOR(pg_catalog.*<>) stale THEN
            SELECT <hstore>.hstore_to_array(d.came),
                   <hstore>.hstore_to_array(<hstore>.slice(<hstore>.hstore(stale), <hstore>.akeys(d.came)))
              INTO columns, was
              FROM (SELECT <hstore>.delete(<hstore>.hstore(fresh), <hstore>.hstore(stale)) AS came
                    OFFSET 0) AS d;
        END IF;
        -- hs_concat with nothing: unpacks an attribute value once for all that is done with it.
        INSERT INTO pbscast.journal (seq, xid, at, op, kind, key, created, columns, changed, before, removed, context)
        SELECT pg_catalog.nextval('pbscast.journal_seq'), pg_catalog.txid_current(), pg_catalog.clock_timestamp(),
               'U', '<table>', <key of NEW>, NEW.<created>, columns,
               <hstore>.hstore_to_array(k.came),
               pg_catalog.array_cat(<hstore>.hstore_to_array(<hstore>.slice(k.went, k.keys)), was),
               <hstore>.akeys(<hstore>.delete(k.went, k.keys)),
               <context of NEW>
          FROM (SELECT d.present, d.came, d.went, <hstore>.akeys(d.came) AS keys
                  FROM (SELECT u.present, <hstore>.delete(u.present, u.past) AS came,
                               <hstore>.delete(u.past, u.present) AS went
                          FROM (SELECT <hstore>.hs_concat(NEW.attributes, '') AS present,
                                       <hstore>.hs_concat(OLD.attributes, '') AS past
                                OFFSET 0) AS u
                        OFFSET 0) AS d
                OFFSET 0) AS k
         WHERE columns OPERATOR(pg_catalog.<>) '{}'
            OR NOT (k.keys OPERATOR(pg_catalog.<@) '{mtime}' AND <hstore>.akeys(k.went) OPERATOR(pg_catalog.<@) '{mtime}')
        RETURNING seq INTO drawn;
        IF drawn IS NULL THEN
            RETURN NULL; -- nothing but mtime: no change
        END IF;
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
        fresh := NEW; fresh.attributes := NULL;
        INSERT INTO pbscast.journal (seq, xid, at, op, kind, key, created, columns, changed)
        VALUES (pg_catalog.nextval('pbscast.journal_seq'), pg_catalog.txid_current(), pg_catalog.clock_timestamp(),
                'I', '<table>', <key of NEW>, NEW.<created>,
                <hstore>.hstore_to_array(<hstore>.delete(<hstore>.hstore(fresh), '{attributes,<saved>}'::pg_catalog.text[])),
                <hstore>.hstore_to_array(NEW.attributes))
        RETURNING seq INTO drawn;
    ELSE
        INSERT INTO pbscast.journal (seq, xid, at, op, kind, key, created, context)
        VALUES (pg_catalog.nextval('pbscast.journal_seq'), pg_catalog.txid_current(), pg_catalog.clock_timestamp(),
                'D', '<table>', <key of OLD>, OLD.<created>, <context of OLD>)
        RETURNING seq INTO drawn;
    END IF;
    IF drawn OPERATOR(pg_catalog.%) 64 OPERATOR(pg_catalog.=) 0 THEN
        PERFORM pbscast.watch_size();
    END IF;
    IF pg_catalog.pg_sequence_last_value('pbscast.mode') OPERATOR(pg_catalog.=) 0
       AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.1 THEN
        PERFORM pg_catalog.pg_notify('pbscast', '');
    END IF;
    RETURN NULL;
EXCEPTION WHEN query_canceled OR assert_failure OR OTHERS THEN
    BEGIN
        PERFORM pbscast.note_loss(SQLSTATE, SQLERRM, '<table>');
    EXCEPTION WHEN query_canceled OR assert_failure OR OTHERS THEN
        NULL;
    END;
    RETURN NULL;
END
$template$;
    state_names constant text := $names$'{job_state,substate,Exit_status,Job_Owner,queue,project,Job_Name,history_timestamp,destination,array_id}'::pg_catalog.text[]$names$;
    context_of_new constant text := $context$pg_catalog.array_cat(
                   <hstore>.hstore_to_array(<hstore>.slice(k.present, <state names>)),
                   ARRAY['ji_svrflags', NEW.ji_svrflags::pg_catalog.text])$context$;
    context_of_old constant text := $context$pg_catalog.array_cat(
                   <hstore>.hstore_to_array(<hstore>.slice(OLD.attributes, pg_catalog.array_cat(<state names>,
                       ARRAY(SELECT name FROM <hstore>.skeys(OLD.attributes) AS name
                              WHERE pg_catalog.left(name, 15) OPERATOR(pg_catalog.=) 'resources_used.')))),
                   ARRAY['ji_svrflags', OLD.ji_svrflags::pg_catalog.text, 'ji_destin', OLD.ji_destin])$context$;
    -- What the reader says of where a reservation or a node stands, whatever of it changed.
    state_of_resv constant text :=
        $context$ARRAY['ri_state', <row>.ri_state::pg_catalog.text, 'ri_substate', <row>.ri_substate::pg_catalog.text]$context$;
    state_of_node constant text := $context$ARRAY['nd_state', <row>.nd_state::pg_catalog.text]$context$;
    place constant text := quote_ident(current_setting('pbscast.install_hstore'));
    item  record;
    code  text;
    shown text;
BEGIN
    FOR item IN
        SELECT * FROM (VALUES ('job',       'ji_jobid',   'ji_creattm',    'ji_savetm'),
                              ('queue',     'qu_name',    'qu_creattm',    'qu_savetm'),
                              ('node',      'nd_name',    'nd_creattm',    'nd_savetm'),
                              ('resv',      'ri_resvid',  'ri_creattm',    'ri_savetm'),
                              ('server',    NULL,         'sv_creattm',    'sv_savetm'),
                              ('scheduler', 'sched_name', 'sched_creattm', 'sched_savetm')
                      ) AS t (kind, key, created, saved)
    LOOP
        shown := CASE item.kind WHEN 'resv' THEN state_of_resv WHEN 'node' THEN state_of_node ELSE 'NULL' END;
        code := replace(body, '<context of NEW>',
                        CASE item.kind WHEN 'job' THEN context_of_new ELSE replace(shown, '<row>', 'NEW') END);
        code := replace(code, '<context of OLD>',
                        CASE item.kind WHEN 'job' THEN context_of_old ELSE replace(shown, '<row>', 'OLD') END);
        code := replace(code, '<state names>', state_names);
        code := replace(code, '<key of NEW>', coalesce('NEW.' || item.key, quote_literal('')));
        code := replace(code, '<key of OLD>', coalesce('OLD.' || item.key, quote_literal('')));
        code := replace(code, '<table>', item.kind);
        code := replace(code, '<created>', item.created);
        code := replace(code, '<saved>', item.saved);
        code := replace(code, '<hstore>', place);
        EXECUTE format('CREATE OR REPLACE FUNCTION pbscast.%I() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER '
                       'SET lock_timeout = ''50ms'' SET datestyle = ''ISO'' AS %L', 'capture_' || item.kind, code);
    END LOOP;
END
$row_triggers$;
