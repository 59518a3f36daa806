-- A statement that fires a trigger which changes rows of the same table is captured when it ends, and so behind what the trigger did: the
-- events of a row that both have changed would come in the wrong order. Whoever captures inside a trigger says so in a setting of
-- the transaction, and the statement around it puts such rows in order.

-- An expression: has a table's row `t` the key of a row that was captured as `o.before` and `o.after`? With the operators of the
-- primary key, so that its index serves.
CREATE FUNCTION hub.has_captured_key(relation regclass) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT string_agg(format('t.%1$I OPERATOR(%2$I.%3$s) (coalesce(o.after, o.before) ->> %1$L)::%4$s',
                           a.attname, n.nspname, o.oprname, format_type(a.atttypid, a.atttypmod)), ' AND ')
  FROM pg_index i
  CROSS JOIN unnest(i.indkey::int2[], i.indclass::oid[]) AS k(attnum, class)
  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
  JOIN pg_opclass c ON c.oid = k.class
  JOIN pg_amop s ON s.amopfamily = c.opcfamily AND s.amoplefttype = c.opcintype AND s.amoprighttype = c.opcintype AND s.amopstrategy = 3
  JOIN pg_operator o ON o.oid = s.amopopr
  JOIN pg_namespace n ON n.oid = o.oprnamespace
  WHERE i.indrelid = relation AND i.indisprimary
$$;

-- Called by a capture function that has captured so many rows, if it runs inside another statement's trigger, or if one did before it in
-- this transaction. `hub.nested_N` is the first `seq` that was captured inside a trigger of a statement of depth N. Returns true.
CREATE FUNCTION hub.put_in_order(captured_kind text, captured bigint) RETURNS boolean LANGUAGE plpgsql
  SET search_path = pg_catalog, hub, pg_temp SET enable_seqscan = off SET jit = off AS $$
DECLARE
  depth     int := pg_trigger_depth();
  since     bigint := substring(current_setting('hub.nested_' || depth, true) FROM '^\d{1,18}$')::bigint;
  first     bigint;
  root      regclass := (SELECT w.relation FROM hub.watched w WHERE w.kind = captured_kind);
  disturbed text[];
BEGIN
  -- Nothing came inside this statement, and those around it know already that something came inside them.
  IF since IS NULL AND depth > 1 AND coalesce(current_setting('hub.nested_' || depth - 1, true), '') <> '' THEN RETURN true; END IF;
  SELECT min(own.seq) INTO first
    FROM (SELECT c.seq FROM hub.change c WHERE c.xid = pg_current_xact_id() ORDER BY c.seq DESC LIMIT captured) own;
  FOR around IN 1..depth - 1 LOOP
    IF coalesce(current_setting('hub.nested_' || around, true), '') = '' THEN
      PERFORM set_config('hub.nested_' || around, first::text, true);
    END IF;
  END LOOP;
  IF since IS NULL THEN RETURN true; END IF;

  -- Rows that are not as this statement left them. One of them may also be as it left them, and have been otherwise meanwhile: to look
  -- for that too is cheap only while little was captured.
  EXECUTE format('SELECT array_agg(o.resource_id) FROM hub.change o LEFT JOIN %s t ON %s
      WHERE o.xid = pg_current_xact_id() AND o.seq >= $1 AND o.kind = $2 AND to_json(t.*)::text IS DISTINCT FROM o.after::text',
      root, hub.has_captured_key(root)) INTO disturbed USING first, captured_kind;
  IF disturbed IS NULL AND first - since > 1000 THEN RETURN true; END IF;

  WITH own AS MATERIALIZED (
    SELECT c.resource_id, c.before::text, c.after::text, c.resource_id = ANY (disturbed) IS TRUE AS is_disturbed
    FROM hub.change c WHERE c.xid = pg_current_xact_id() AND c.seq >= first AND c.kind = captured_kind
  ), nested AS MATERIALIZED (
    SELECT c.resource_id, c.seq, c.before::text, row_number() OVER chain = 1 AS is_first, lag(c.after::text) OVER chain AS earlier,
           last_value(c.after::text) OVER (chain ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS latest
    FROM hub.change c
    WHERE c.xid = pg_current_xact_id() AND c.seq >= since AND c.seq < first AND c.kind = captured_kind
      AND c.resource_id IN (SELECT own.resource_id FROM own)
    WINDOW chain AS (PARTITION BY c.resource_id ORDER BY c.seq)
  ), later AS (
    -- A row's changes are a chain, each beginning with what the one before left. Ours stands before one that begins with what ours left: where
    -- the chain is broken, if it is (by ours, or by one around us that is not captured yet), or where ours fits in, or at the beginning. A row
    -- that is as ours left it was changed after ours only if it came back to that.
    SELECT DISTINCT ON (n.resource_id) n.resource_id, n.seq
    FROM own o JOIN nested n USING (resource_id)
    WHERE n.before IS NOT DISTINCT FROM o.after
      AND (n.is_first OR n.earlier IS DISTINCT FROM n.before OR n.earlier IS NOT DISTINCT FROM o.before)
      AND (o.is_disturbed OR n.latest IS NOT DISTINCT FROM o.after AND n.latest IS DISTINCT FROM o.before)
    ORDER BY n.resource_id, n.is_first, n.earlier IS NOT DISTINCT FROM n.before, n.earlier IS DISTINCT FROM o.before, n.seq
  ), moved AS (
    DELETE FROM hub.change c USING later l
    WHERE c.xid = pg_current_xact_id() AND c.seq >= l.seq AND c.seq < first AND c.kind = captured_kind AND c.resource_id = l.resource_id
    RETURNING c.*
  )
  INSERT INTO hub.change (kind, resource_id, type, after, before, captured_at, actor, origin, trace)
    SELECT m.kind, m.resource_id, m.type, m.after, m.before, m.captured_at, m.actor, m.origin, m.trace FROM moved m ORDER BY m.seq;
  RETURN true;
END $$;

-- The statements that capture an event, for `format`; the places are those of hub.capture_source.
CREATE OR REPLACE FUNCTION hub.capture_statement(event text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
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
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'TRUNCATE of the watched table %% needs READ COMMITTED', TG_RELID::regclass
      USING ERRCODE = 'object_not_in_prerequisite_state',
            DETAIL = 'A snapshot taken earlier cannot see every row that TRUNCATE deletes.',
            HINT = 'Use DELETE, or TRUNCATE in a READ COMMITTED transaction.';
  END IF;
  EXECUTE format('INSERT INTO hub.change (kind, resource_id, type, before, actor, origin, trace)
    SELECT %%L, %9$s, 3, to_json(b.*), $1, $2, $3 FROM ONLY %%s b', %1$L, TG_RELID::regclass) USING actor, origin, trace;$s$
  END
$$;

-- The body of a kind's trigger function: static SQL, so that each session plans it once. Every name but a column's is qualified: it
-- means the same whatever the writer's search_path is, also for a function that does not set its own.
CREATE OR REPLACE FUNCTION hub.capture_source(kind text, key_columns text[], event text, mode text) RETURNS text LANGUAGE sql IMMUTABLE AS $capture$
  SELECT format($body$
#variable_conflict use_variable
DECLARE
  actor  pg_catalog.text := CASE
    WHEN pg_catalog.current_setting('hub.actor', true) OPERATOR(pg_catalog.<>) '' THEN pg_catalog.current_setting('hub.actor', true)
    WHEN pg_catalog.current_setting('role') OPERATOR(pg_catalog.<>) 'none' THEN pg_catalog.current_setting('role')
    ELSE session_user END;
  origin pg_catalog.text := CASE WHEN pg_catalog.current_setting('hub.origin', true) OPERATOR(pg_catalog.<>) '' THEN pg_catalog.current_setting('hub.origin', true) END;
  captured pg_catalog.int8;
  trace  pg_catalog.text := CASE WHEN pg_catalog.current_setting('hub.trace', true) OPERATOR(pg_catalog.<>) '' THEN pg_catalog.current_setting('hub.trace', true) END;
BEGIN$body$ || CASE WHEN mode = 'first' AND event IN ('insert', 'update', 'delete') THEN hub.only_first(event) ELSE '' END
  || hub.capture_statement(event) || $body$
  GET DIAGNOSTICS captured = ROW_COUNT;
  IF captured OPERATOR(pg_catalog.>) 0
    AND (CASE WHEN pg_catalog.pg_trigger_depth() OPERATOR(pg_catalog.>) 1 OR pg_catalog.current_setting('hub.nested_1', true) OPERATOR(pg_catalog.<>) ''
         THEN hub.put_in_order(%1$L, captured) ELSE true END)
    AND %10$s THEN
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
