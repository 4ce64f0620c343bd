-- The row trigger function: one text for all six tables, in which <table>, <key> (the expression for
-- the object's name), <created>, <saved>, <context of r>, <attributes of r> and <hstore> (the schema of
-- the extension) are filled in. What PBS's other columns are called does not matter.
--
-- It runs inside each of PBS's saves, so: nothing leaves the block; no variable is of type hstore
-- (an unknown type would be an error outside the block); every name is qualified instead of setting
-- search_path, those of types too: the declarations are read outside the block, along PBS's path; every argument of an hstore function has exactly its type, because an overload that
-- somebody else put into that schema would win over a conversion (the array makes a mere record of a
-- row, whose own type would fit better); and the hot way is few expressions, because each costs at
-- first use in a transaction.
DO $row_triggers$
DECLARE
    body constant text := $template$
DECLARE
    fresh pg_catalog.record;
    stale pg_catalog.record;
    rung  pg_catalog.text;
BEGIN
    -- Two steps: to call a function costs something even where it is not reached.
    IF pg_catalog.current_setting('pbscast.owed', true) OPERATOR(pg_catalog.<>) ''
       OR pbscast.mode() OPERATOR(pg_catalog.<>) 0 THEN
        IF pbscast.hold_back() THEN
            RETURN NULL;
        END IF;
    END IF;
    IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
        fresh := NEW; fresh.attributes := NULL; fresh.<saved> := NULL;
        stale := OLD; stale.attributes := NULL; stale.<saved> := NULL;
        IF fresh OPERATOR(pg_catalog.*<>) stale THEN
            INSERT INTO pbscast.journal (seq, xid, at, op, kind, key, created, changed, removed, context, columns, before)
            SELECT <what every update holds>,
                   <hstore>.hstore_to_array(c.came),
                   <hstore>.hstore_to_array(<hstore>.hs_concat(<hstore>.slice(c.was, <hstore>.akeys(c.came)),
                                                               <hstore>.slice(d.went, <hstore>.akeys(d.came))))
              FROM <differences of the attributes> AS d,
                   (SELECT o.was, <hstore>.delete(<hstore>.hstore((ARRAY[fresh]::pg_catalog.record[])[1]), o.was) AS came
                      FROM (SELECT <hstore>.hstore((ARRAY[stale]::pg_catalog.record[])[1]) AS was OFFSET 0) AS o OFFSET 0) AS c;
        ELSE
            INSERT INTO pbscast.journal (seq, xid, at, op, kind, key, created, changed, removed, context, before)
            SELECT <what every update holds>,
                   <hstore>.hstore_to_array(<hstore>.slice(d.went, <hstore>.akeys(d.came)))
              FROM <differences of the attributes> AS d
             WHERE <hstore>.hstore_ne(<hstore>.delete(<hstore>.hs_concat(d.went, d.came), 'mtime'::pg_catalog.text), ''::<hstore>.hstore);
        END IF;
        IF FOUND AND (pg_catalog.currval('pbscast.journal_seq') OPERATOR(pg_catalog.%) 64 OPERATOR(pg_catalog.=) 0
                      OR pg_catalog.pg_column_size(NEW.attributes) OPERATOR(pg_catalog.>) 65536
                      OR pg_catalog.pg_column_size(OLD.attributes) OPERATOR(pg_catalog.>) 65536) THEN
            PERFORM pbscast.watch_size();
        END IF;
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
        fresh := NEW; fresh.attributes := NULL;
        INSERT INTO pbscast.journal (seq, xid, at, op, kind, key, created, columns, changed)
        VALUES (pg_catalog.nextval('pbscast.journal_seq'), pg_catalog.txid_current(), pg_catalog.clock_timestamp(),
                'I', '<table>', <key of NEW>, NEW.<created>,
                <hstore>.hstore_to_array(<hstore>.delete(<hstore>.hstore((ARRAY[fresh]::pg_catalog.record[])[1]), '{attributes,<saved>}'::pg_catalog.text[])),
                <hstore>.hstore_to_array(<attributes of NEW>));
        IF pg_catalog.currval('pbscast.journal_seq') OPERATOR(pg_catalog.%) 64 OPERATOR(pg_catalog.=) 0
           OR pg_catalog.pg_column_size(NEW.attributes) OPERATOR(pg_catalog.>) 65536 THEN
            PERFORM pbscast.watch_size();
        END IF;
    ELSE
        INSERT INTO pbscast.journal (seq, xid, at, op, kind, key, created, context)
        VALUES (pg_catalog.nextval('pbscast.journal_seq'), pg_catalog.txid_current(), pg_catalog.clock_timestamp(),
                'D', '<table>', <key of OLD>, OLD.<created>, <context of OLD>);
        IF pg_catalog.currval('pbscast.journal_seq') OPERATOR(pg_catalog.%) 64 OPERATOR(pg_catalog.=) 0
           OR pg_catalog.pg_column_size(OLD.attributes) OPERATOR(pg_catalog.>) 65536 THEN
            PERFORM pbscast.watch_size();
        END IF;
    END IF;
    IF FOUND THEN
        rung := CASE WHEN pbscast.mode() OPERATOR(pg_catalog.=) 0
                      AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.1
                     THEN pg_catalog.pg_notify('pbscast', '')::pg_catalog.text END;
    END IF; -- else nothing but mtime was saved: that is no change
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
    held constant text := $held$pg_catalog.nextval('pbscast.journal_seq'), pg_catalog.txid_current(),
                   pg_catalog.clock_timestamp(), 'U', '<table>', <key of NEW>, NEW.<created>,
                   <hstore>.hstore_to_array(d.came),
                   <hstore>.akeys(<hstore>.delete(d.went, <hstore>.akeys(d.came))),
                   <context of NEW>$held$;
    -- Either unpacks an attribute value once for all that is done with it; that of a job also leaves out
    -- what opens doors and is shown to nobody (the same list stands in what reads pbs.job).
    all_attributes constant text := $attributes$<hstore>.hs_concat(<row>.attributes, ''::<hstore>.hstore)$attributes$;
    open_attributes constant text := $attributes$<hstore>.delete(<row>.attributes, '{cookie,forward_x11_cookie,security,cred,credential_id}'::pg_catalog.text[])$attributes$;
    differences constant text := $differences$
                   (SELECT u.present, <hstore>.delete(u.present, u.past) AS came, <hstore>.delete(u.past, u.present) AS went
                      FROM (SELECT <attributes of NEW> AS present, <attributes of OLD> AS past OFFSET 0) AS u OFFSET 0)$differences$;
    state_names constant text := $names$'{job_state,substate,Exit_status,Job_Owner,queue,project,Job_Name,history_timestamp,destination,array_id}'::pg_catalog.text[]$names$;
    context_of_new constant text := $context$<hstore>.hstore_to_array(<hstore>.hs_concat(
                       <hstore>.slice(d.present, <state names>),
                       <hstore>.hstore('ji_svrflags'::pg_catalog.text, NEW.ji_svrflags::pg_catalog.text)))$context$;
    context_of_old constant text := $context$<hstore>.hstore_to_array(<hstore>.hs_concat(
                       <hstore>.slice(OLD.attributes, pg_catalog.array_cat(<state names>,
                           ARRAY(SELECT name FROM <hstore>.skeys(OLD.attributes) AS name
                                  WHERE pg_catalog.left(name, 15) OPERATOR(pg_catalog.=) 'resources_used.'))),
                       <hstore>.hstore(ARRAY['ji_svrflags', OLD.ji_svrflags::pg_catalog.text,
                                                'ji_destin', OLD.ji_destin::pg_catalog.text]::pg_catalog.text[])))$context$;
    -- What the reader says of where a reservation or a node stands, whatever of it changed.
    state_of_resv constant text :=
        $context$ARRAY['ri_state', <row>.ri_state::pg_catalog.text, 'ri_substate', <row>.ri_substate::pg_catalog.text]$context$;
    state_of_node constant text := $context$ARRAY['nd_state', <row>.nd_state::pg_catalog.text]$context$;
    place constant text := quote_ident(current_setting('pbscast.install_hstore'));
    item  record;
    code  text;
    shown text;
    given text;
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
        code := replace(body, '<what every update holds>', held);
        code := replace(code, '<differences of the attributes>', differences);
        code := replace(code, '<context of NEW>',
                        CASE item.kind WHEN 'job' THEN context_of_new ELSE replace(shown, '<row>', 'NEW') END);
        code := replace(code, '<context of OLD>',
                        CASE item.kind WHEN 'job' THEN context_of_old ELSE replace(shown, '<row>', 'OLD') END);
        given := CASE item.kind WHEN 'job' THEN open_attributes ELSE all_attributes END;
        code := replace(code, '<attributes of NEW>', replace(given, '<row>', 'NEW'));
        code := replace(code, '<attributes of OLD>', replace(given, '<row>', 'OLD'));
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
