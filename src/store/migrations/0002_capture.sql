-- Capture: AFTER STATEMENT triggers with transition tables, one INSERT … SELECT per statement, for any table with a primary key.

-- Advisory locks as flags, because they are seen at once and not through a snapshot. Class 1953654136 is 'trex' in ASCII;
--   1 seal     one hub seals at a time (transaction lock; session lock for an exact initial state)
--   2 busy     exclusive: a hub is sealing at short intervals and needs no bell
--   3 present  shared: a hub listens
--   4 migrate
--   5 compact
--
-- An expression, for the capture functions: does a hub listen and sleep? Each try and its release stand in one expression: a cancel
-- between two statements would leak a session lock.
CREATE FUNCTION hub.bell_expression() RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT $e$(CASE WHEN pg_catalog.pg_try_advisory_lock_shared(1953654136, 2) THEN pg_catalog.pg_advisory_unlock_shared(1953654136, 2) ELSE false END)
    AND NOT (CASE WHEN pg_catalog.pg_try_advisory_lock(1953654136, 3) THEN pg_catalog.pg_advisory_unlock(1953654136, 3) ELSE false END)
    -- NOTIFY forbids PREPARE TRANSACTION: hubs poll such a server.
    AND pg_catalog.current_setting('max_prepared_transactions') OPERATOR(pg_catalog.=) '0'
    -- A full queue fails the writer.
    AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<=) 0.5$e$
$$;

-- The primary key's columns, in order.
CREATE FUNCTION hub.key_columns(relation regclass) RETURNS text[] LANGUAGE sql STABLE AS $$
  SELECT array_agg(a.attname::text ORDER BY k.position)
  FROM pg_index i
  CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position)
  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
  WHERE i.indrelid = relation AND i.indisprimary AND k.position <= i.indnkeyatts
$$;

-- An expression for the resource id of a row called `alias`: the key's text; the parts of a composite key joined by '/',
-- with '%' and '/' inside a part written as %25 and %2F, so that no two keys give one id.
CREATE FUNCTION hub.key_expression(key_columns text[], alias text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE cardinality(key_columns)
    WHEN 1 THEN format('%s.%I::pg_catalog.text', alias, key_columns[1])
    ELSE (SELECT string_agg(format('pg_catalog.replace(pg_catalog.replace(%s.%I::pg_catalog.text, ''%%'', ''%%25''), ''/'', ''%%2F'')', alias, k),
                            ' OPERATOR(pg_catalog.||) ''/'' OPERATOR(pg_catalog.||) ' ORDER BY n)
          FROM unnest(key_columns) WITH ORDINALITY AS u(k, n))
  END
$$;

-- An expression: have two rows the same resource id? By text: 1.0 and 1.00 are equal numbers and two resources.
CREATE FUNCTION hub.same_key(key_columns text[], a text, b text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT string_agg(format('%2$s.%1$I::pg_catalog.text COLLATE pg_catalog."C" OPERATOR(pg_catalog.=) %3$s.%1$I::pg_catalog.text COLLATE pg_catalog."C"', k, a, b), ' AND ')
  FROM unnest(key_columns) k
$$;

-- A table and, if it is partitioned, its partitions; the table itself has depth 0.
CREATE FUNCTION hub.parts(relation regclass) RETURNS TABLE (part regclass, depth int) LANGUAGE sql STABLE AS $$
  SELECT relation, 0
  UNION
  SELECT relid, level FROM pg_partition_tree(relation)
$$;

-- Tables that a change of `relation` reaches through cascading foreign keys.
CREATE FUNCTION hub.cascades_to(relation regclass) RETURNS SETOF regclass LANGUAGE sql STABLE AS $$
  WITH RECURSIVE reached(oid) AS (
      SELECT c.conrelid FROM pg_constraint c
      WHERE c.contype = 'f' AND c.confrelid = relation AND (c.confupdtype IN ('c', 'n', 'd') OR c.confdeltype IN ('c', 'n', 'd'))
    UNION
      SELECT c.conrelid FROM pg_constraint c JOIN reached r ON c.confrelid = r.oid
      WHERE c.contype = 'f' AND (c.confupdtype IN ('c', 'n', 'd') OR c.confdeltype IN ('c', 'n', 'd')))
  SELECT oid::regclass FROM reached
$$;

-- Statement triggers fire after all row triggers. Where those, or a cascade, can change a row of the statement again, that second
-- change would be captured before the first. How a table is captured, so that it is not:
--   statement  after the statement, all its rows at once
--   first      the same, but by the trigger of its first row, which fires before the table's own AFTER ROW triggers
--   row        each row by itself: cascades queue their rows behind those of the statement that caused them and share its transition
--              tables, so that one row may be in them twice; and a partition's row triggers can have no transition tables
-- Slower in this order.
CREATE FUNCTION hub.capture_mode(relation regclass) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT CASE
    WHEN relation IN (SELECT hub.cascades_to(relation)) THEN 'row'
    -- One statement on a parent can reach a row through several foreign keys.
    WHEN (SELECT count(*) FROM pg_constraint c JOIN hub.parts(relation) p ON c.conrelid = p.part
          WHERE c.contype = 'f' AND c.conparentid = 0 AND (c.confupdtype IN ('c', 'n', 'd') OR c.confdeltype IN ('c', 'n', 'd'))) > 1 THEN 'row'
    WHEN EXISTS (SELECT FROM pg_trigger t JOIN hub.cascades_to(relation) c ON t.tgrelid = c
                 WHERE NOT t.tgisinternal AND t.tgname NOT LIKE '!trex\_%' AND t.tgtype & 2 = 0) THEN 'row'
    WHEN NOT EXISTS (SELECT FROM pg_trigger t JOIN hub.parts(relation) p ON t.tgrelid = p.part
                     WHERE NOT t.tgisinternal AND t.tgname NOT LIKE '!trex\_%' AND t.tgtype & 1 = 1 AND t.tgtype & 2 = 0) THEN 'statement'
    WHEN EXISTS (SELECT FROM pg_class WHERE oid = relation AND relkind = 'p')
      OR EXISTS (SELECT FROM pg_inherits WHERE inhrelid = relation) THEN 'row'
    ELSE 'first'
  END
$$;

-- A trigger function per event (insert, update, delete, truncate, row): one that had to ask which event it is would cost
-- more, for plpgsql prepares each expression anew in each transaction.
CREATE FUNCTION hub.capture_function(kind text, event text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT format('hub.%I', 'capture_' || event || '_' || kind)
$$;

CREATE FUNCTION hub.capture_events() RETURNS SETOF text LANGUAGE sql IMMUTABLE AS $$
  VALUES ('insert'), ('update'), ('delete'), ('truncate'), ('row')
$$;

-- The statements that capture an event, for `format`; the places are those of hub.capture_source.
CREATE FUNCTION hub.capture_statement(event text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE event
    WHEN 'insert' THEN $s$
  INSERT INTO hub.change (kind, resource_id, type, after, actor, origin, trace)
    SELECT %1$L, %2$s, 1, pg_catalog.to_json(a.*), actor, origin, trace FROM new_rows a;$s$
    WHEN 'delete' THEN $s$
  INSERT INTO hub.change (kind, resource_id, type, before, actor, origin, trace)
    SELECT %1$L, %3$s, 3, pg_catalog.to_json(b.*), actor, origin, trace FROM old_rows b;$s$
    WHEN 'update' THEN $s$
  -- A changed key leaves an old row and a new row without a partner: a delete and a create, the deletes first.
  INSERT INTO hub.change (kind, resource_id, type, before, after, actor, origin, trace)
    SELECT %1$L, coalesce(%2$s, %3$s), CASE WHEN %4$s IS NULL THEN 3 WHEN %5$s IS NULL THEN 1 ELSE 2 END,
           CASE WHEN %5$s IS NOT NULL THEN pg_catalog.to_json(b.*) END, CASE WHEN %4$s IS NOT NULL THEN pg_catalog.to_json(a.*) END,
           actor, origin, trace
    FROM old_rows b FULL JOIN new_rows a ON %6$s
    ORDER BY %4$s IS NULL DESC;$s$
    WHEN 'row' THEN $s$
  IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
    INSERT INTO hub.change (kind, resource_id, type, after, actor, origin, trace)
      VALUES (%1$L, %7$s, 1, pg_catalog.to_json(NEW), actor, origin, trace);
  ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN
    INSERT INTO hub.change (kind, resource_id, type, before, actor, origin, trace)
      VALUES (%1$L, %8$s, 3, pg_catalog.to_json(OLD), actor, origin, trace);
  ELSIF %11$s THEN
    INSERT INTO hub.change (kind, resource_id, type, before, after, actor, origin, trace)
      VALUES (%1$L, %7$s, 2, pg_catalog.to_json(OLD), pg_catalog.to_json(NEW), actor, origin, trace);
  ELSE
    INSERT INTO hub.change (kind, resource_id, type, before, after, actor, origin, trace)
      VALUES (%1$L, %8$s, 3, pg_catalog.to_json(OLD), NULL, actor, origin, trace), (%1$L, %7$s, 1, NULL, pg_catalog.to_json(NEW), actor, origin, trace);
  END IF;$s$
    WHEN 'truncate' THEN $s$
  DECLARE captured bigint; BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'TRUNCATE of the watched table %% needs READ COMMITTED', TG_RELID::regclass
      USING ERRCODE = 'object_not_in_prerequisite_state',
            DETAIL = 'A snapshot taken earlier cannot see every row that TRUNCATE deletes.',
            HINT = 'Use DELETE, or TRUNCATE in a READ COMMITTED transaction.';
  END IF;
  EXECUTE format('INSERT INTO hub.change (kind, resource_id, type, before, actor, origin, trace)
    SELECT %%L, %9$s, 3, to_json(b.*), $1, $2, $3 FROM ONLY %%s b', %1$L, TG_RELID::regclass) USING actor, origin, trace;
  -- EXECUTE does not set FOUND.
  GET DIAGNOSTICS captured = ROW_COUNT;
  PERFORM WHERE captured > 0;
  END;$s$
  END
$$;

-- In mode `first` the trigger of the first row captures for all: the transition tables are complete by then, and in the order in which
-- the triggers fire.
CREATE FUNCTION hub.only_first(event text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE event
    WHEN 'insert' THEN $s$
  IF NOT (SELECT %12$s FROM new_rows a LIMIT 1) THEN RETURN NULL; END IF;$s$
    ELSE $s$
  IF NOT (SELECT %13$s FROM old_rows b LIMIT 1) THEN RETURN NULL; END IF;$s$
  END
$$;

-- The body of a kind's trigger function: static SQL, so that each session plans it once. Every name but a column's is qualified: it
-- means the same whatever the writer's search_path is, also for a function that does not set its own.
CREATE FUNCTION hub.capture_source(kind text, key_columns text[], event text, mode text) RETURNS text LANGUAGE sql IMMUTABLE AS $capture$
  SELECT format($body$
#variable_conflict use_variable
DECLARE
  actor  pg_catalog.text := CASE
    WHEN pg_catalog.current_setting('hub.actor', true) OPERATOR(pg_catalog.<>) '' THEN pg_catalog.current_setting('hub.actor', true)
    WHEN pg_catalog.current_setting('role') OPERATOR(pg_catalog.<>) 'none' THEN pg_catalog.current_setting('role')
    ELSE session_user END;
  origin pg_catalog.text := CASE WHEN pg_catalog.current_setting('hub.origin', true) OPERATOR(pg_catalog.<>) '' THEN pg_catalog.current_setting('hub.origin', true) END;
  trace  pg_catalog.text := CASE WHEN pg_catalog.current_setting('hub.trace', true) OPERATOR(pg_catalog.<>) '' THEN pg_catalog.current_setting('hub.trace', true) END;
BEGIN$body$ || CASE WHEN mode = 'first' AND event IN ('insert', 'update', 'delete') THEN hub.only_first(event) ELSE '' END
  || hub.capture_statement(event) || $body$
  IF FOUND AND %10$s THEN
    PERFORM pg_catalog.pg_notify('hub_doorbell', '');
  END IF;
  RETURN NULL;
END $body$,
    kind,                                                                                  -- 1
    hub.key_expression(key_columns, 'a'), hub.key_expression(key_columns, 'b'),            -- 2, 3
    format('a.%I', key_columns[1]), format('b.%I', key_columns[1]),                        -- 4, 5
    hub.same_key(key_columns, 'a', 'b'),                                                   -- 6
    hub.key_expression(key_columns, 'NEW'), hub.key_expression(key_columns, 'OLD'),        -- 7, 8
    replace(replace(hub.key_expression(key_columns, 'b'), '%', '%%'), '''', ''''''),       -- 9, inside a quoted format()
    hub.bell_expression(),                                                                 -- 10
    hub.same_key(key_columns, 'NEW', 'OLD'),                                               -- 11
    hub.same_key(key_columns, 'a', 'NEW'), hub.same_key(key_columns, 'b', 'OLD')           -- 12, 13
  )
$capture$;

-- Settings of a kind's trigger functions, as pg_proc has them. The functions qualify every name, and the types listed here are
-- written by Postgres' own code, so most need none: setting search_path and row_security costs every statement about 1 µs of some 10. Only where a column's type is somebody else's code does a fixed search_path keep a writer from lending it names, and
-- only there may a session's output formats change what is recorded. Dates and times are always ISO in JSON, but not in a key, whose
-- text they are. TRUNCATE reads the table, so row security must not hide rows.
CREATE FUNCTION hub.capture_settings(relation regclass, event text) RETURNS text[] LANGUAGE sql STABLE AS $$
  SELECT CASE
    WHEN EXISTS (
      SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
        AND a.atttypid <> ALL ('{text,varchar,bpchar,name,uuid,bool,int2,int4,int8,numeric,oid}'::regtype[])
        AND (a.attname = ANY (hub.key_columns(relation))
             OR a.atttypid <> ALL ('{date,time,timestamp,timestamptz,json,jsonb,text[],int4[],int8[],uuid[]}'::regtype[])))
    THEN '{"search_path=pg_catalog, pg_temp",row_security=off,TimeZone=UTC,"DateStyle=ISO, YMD",IntervalStyle=iso_8601,extra_float_digits=1,bytea_output=hex,lc_monetary=C}'
    WHEN event = 'truncate' THEN '{"search_path=pg_catalog, pg_temp",row_security=off}'::text[]
  END
$$;

-- The triggers that a watched table and its partitions must have. Names begin with '!' to sort, and so fire, before any other.
-- `enabled`: O in ordinary sessions, R while replication applies changes (statement triggers do not fire then), A in both.
CREATE FUNCTION hub.wanted_triggers(wanted_kind text)
  RETURNS TABLE (relation regclass, name text, function text, event text, level text, enabled "char", tgtype int, old_table text, new_table text)
  LANGUAGE sql STABLE AS $$
  WITH w AS (SELECT kind, hub.watched.relation AS root, hub.capture_mode(hub.watched.relation) AS mode
             FROM hub.watched JOIN pg_class c ON c.oid = hub.watched.relation WHERE kind = wanted_kind),
       parts AS (SELECT p.part, w.* FROM w CROSS JOIN hub.parts(w.root) p)
  SELECT part, '!trex_' || t.name, hub.capture_function(kind, t.name), t.event, t.level, 'O'::"char", t.tgtype, t.old_table, t.new_table
  FROM parts JOIN (VALUES
    -- tgtype: 1 row, 2 before, 4 insert, 8 delete, 16 update, 32 truncate
    ('statement', 'insert', 'AFTER INSERT', 'STATEMENT', 4,  NULL,       'new_rows'),
    ('statement', 'update', 'AFTER UPDATE', 'STATEMENT', 16, 'old_rows', 'new_rows'),
    ('statement', 'delete', 'AFTER DELETE', 'STATEMENT', 8,  'old_rows', NULL),
    ('first',     'insert', 'AFTER INSERT', 'ROW',       5,  NULL,       'new_rows'),
    ('first',     'update', 'AFTER UPDATE', 'ROW',       17, 'old_rows', 'new_rows'),
    ('first',     'delete', 'AFTER DELETE', 'ROW',       9,  'old_rows', NULL)
  ) AS t(mode, name, event, level, tgtype, old_table, new_table) USING (mode)
  UNION ALL
  SELECT part, '!trex_truncate', hub.capture_function(kind, 'truncate'), 'BEFORE TRUNCATE', 'STATEMENT', 'A', 34, NULL, NULL FROM parts
  UNION ALL
  -- A row trigger on a partitioned table is cloned to its partitions.
  SELECT part, '!trex_row', hub.capture_function(kind, 'row'), 'AFTER INSERT OR UPDATE OR DELETE', 'ROW',
    (CASE WHEN mode = 'row' THEN 'A' ELSE 'R' END)::"char", 29, NULL, NULL
  FROM parts
$$;

-- What is wrong with the capture of a kind; no row: nothing.
CREATE FUNCTION hub.capture_faults(wanted_kind text) RETURNS TABLE (fault text) LANGUAGE sql STABLE AS $$
  SELECT format('the table of kind %s was never watched, or is gone', wanted_kind)
    WHERE NOT EXISTS (SELECT FROM hub.watched w JOIN pg_class c ON c.oid = w.relation WHERE w.kind = wanted_kind)
  UNION ALL
  SELECT format('%s: trigger %s is missing', t.relation, t.name)
    FROM hub.wanted_triggers(wanted_kind) t
    WHERE NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = t.relation AND g.tgname = t.name)
  UNION ALL
  SELECT format('%s: trigger %s is disabled or altered', t.relation, t.name)
    FROM hub.wanted_triggers(wanted_kind) t JOIN pg_trigger g ON g.tgrelid = t.relation AND g.tgname = t.name
    WHERE (g.tgenabled, g.tgtype::int, g.tgoldtable::text, g.tgnewtable::text, g.tgfoid, g.tgqual IS NULL, g.tgattr::text)
      IS DISTINCT FROM (t.enabled, t.tgtype, t.old_table, t.new_table, to_regproc(t.function)::oid, true, '')
  UNION ALL
  SELECT format('%s: trigger %s does not belong here', g.tgrelid::regclass, g.tgname)
    FROM hub.watched w CROSS JOIN hub.parts(w.relation) p JOIN pg_trigger g ON g.tgrelid = p.part
    WHERE w.kind = wanted_kind AND g.tgname LIKE '!trex\_%'
      AND NOT EXISTS (SELECT FROM hub.wanted_triggers(wanted_kind) t WHERE t.relation = g.tgrelid AND t.name = g.tgname)
  UNION ALL
  SELECT format('%s: has no primary key', w.relation)
    FROM hub.watched w JOIN pg_class c ON c.oid = w.relation WHERE w.kind = wanted_kind AND hub.key_columns(w.relation) IS NULL
  UNION ALL
  SELECT DISTINCT format('%s: the capture function does not fit the table''s columns or primary key', w.relation)
    FROM hub.watched w JOIN pg_class c ON c.oid = w.relation CROSS JOIN hub.capture_events() e(event)
    LEFT JOIN pg_proc f ON f.oid = to_regproc(hub.capture_function(wanted_kind, e.event))
    WHERE w.kind = wanted_kind AND (f.prosrc, f.prosecdef, f.proconfig) IS DISTINCT FROM (
      -- Without a key there is no source, and nothing to compare.
      CASE WHEN hub.key_columns(w.relation) IS NULL THEN f.prosrc
        ELSE hub.capture_source(wanted_kind, hub.key_columns(w.relation), e.event, hub.capture_mode(w.relation)) END,
      true, hub.capture_settings(w.relation, e.event))
$$;

-- Watches a table, or mends its capture. Takes no lock on the table when nothing is wrong.
CREATE FUNCTION hub.watch(new_kind text, new_relation regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  keys text[] := hub.key_columns(new_relation);
  t record;
BEGIN
  IF keys IS NULL THEN
    RAISE EXCEPTION 'table % has no primary key, so its rows have no identity to watch', new_relation USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  INSERT INTO hub.watched (kind, relation) VALUES (new_kind, new_relation)
    ON CONFLICT (kind) DO UPDATE SET relation = new_relation WHERE hub.watched.relation <> new_relation;
  IF NOT EXISTS (SELECT FROM hub.capture_faults(new_kind)) THEN RETURN; END IF;

  -- SECURITY DEFINER: a writer needs no right on hub.
  FOR t IN SELECT e.event, hub.capture_settings(new_relation, e.event) AS settings FROM hub.capture_events() e(event) LOOP
    EXECUTE format('CREATE OR REPLACE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER %s AS %L',
      hub.capture_function(new_kind, t.event),
      (SELECT string_agg(format('SET %s = %s', split_part(s, '=', 1),
         -- A list is not quoted as a whole.
         CASE WHEN s LIKE 'search\_path=%' THEN split_part(s, '=', 2) ELSE quote_literal(split_part(s, '=', 2)) END), ' ' ORDER BY n)
       FROM unnest(t.settings) WITH ORDINALITY u(s, n)),
      hub.capture_source(new_kind, keys, t.event, hub.capture_mode(new_relation)));
  END LOOP;

  FOR t IN SELECT g.tgrelid::regclass AS relation, g.tgname AS name
    FROM hub.parts(new_relation) p JOIN pg_trigger g ON g.tgrelid = p.part
    WHERE g.tgname LIKE '!trex\_%' AND g.tgparentid = 0
      AND NOT EXISTS (SELECT FROM hub.wanted_triggers(new_kind) w WHERE w.relation = g.tgrelid AND w.name = g.tgname)
  LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', t.name, t.relation);
  END LOOP;
  FOR t IN SELECT w.*, p.depth FROM hub.wanted_triggers(new_kind) w JOIN hub.parts(new_relation) p ON p.part = w.relation
    ORDER BY p.depth
  LOOP
    IF t.name <> '!trex_row' OR t.depth = 0 THEN
      EXECUTE format('CREATE OR REPLACE TRIGGER %I %s ON %s %s FOR EACH %s EXECUTE FUNCTION %s()', t.name, t.event, t.relation,
        CASE WHEN t.old_table IS NOT NULL OR t.new_table IS NOT NULL THEN concat_ws(' ', 'REFERENCING',
          CASE WHEN t.old_table IS NOT NULL THEN 'OLD TABLE AS old_rows' END, CASE WHEN t.new_table IS NOT NULL THEN 'NEW TABLE AS new_rows' END) END,
        t.level, t.function);
    END IF;
    EXECUTE format('ALTER TABLE ONLY %s ENABLE %s TRIGGER %I', t.relation,
      CASE t.enabled WHEN 'A' THEN 'ALWAYS' WHEN 'R' THEN 'REPLICA' ELSE '' END, t.name);
  END LOOP;
END $$;
