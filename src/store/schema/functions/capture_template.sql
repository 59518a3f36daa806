-- The text of what captures, with places. `function` is the body of a trigger function; the others are its statements.
--   {new} {old}          the rows' aliases          {new_row} {old_row}  the rows as JSON
--   {new_id} {old_id}    their resource ids         {new_key} {old_key}  a column that is NULL only where an outer join found no row
--   {said}               actor, origin, trace
-- `capture`, `capture_quickly` and `in_utc` are parts of a function's body.
-- Every name but a column's is qualified: it means the same whatever the writer's search_path is. No backslash, and nothing that
-- Postgres may quote is compared: it means the same whatever the session's settings are.
CREATE OR REPLACE FUNCTION hub.capture_template(part text) RETURNS text LANGUAGE sql IMMUTABLE
  SET search_path = pg_catalog, hub, pg_temp AS $template$
  SELECT CASE part
    WHEN 'function' THEN $t$
#variable_conflict use_variable
DECLARE
  said      pg_catalog.text[] := ARRAY[
    CASE WHEN pg_catalog.current_setting('hub.actor', true) OPERATOR(pg_catalog.<>) '' THEN pg_catalog.current_setting('hub.actor', true)
         WHEN pg_catalog.current_setting('role') OPERATOR(pg_catalog.<>) 'none' THEN pg_catalog.current_setting('role')
         ELSE session_user END,
    CASE WHEN pg_catalog.current_setting('hub.origin', true) OPERATOR(pg_catalog.<>) '' THEN pg_catalog.current_setting('hub.origin', true) END,
    CASE WHEN pg_catalog.current_setting('hub.trace', true) OPERATOR(pg_catalog.<>) '' THEN pg_catalog.current_setting('hub.trace', true) END];
  zone      pg_catalog.text;
  captured  pg_catalog.int8;
  nesting   pg_catalog.int8[];
  disturbed pg_catalog.text[];
BEGIN{capture}
  IF captured OPERATOR(pg_catalog.>) 0 AND (CASE WHEN {is_nested} THEN true ELSE {bell} END) THEN
    IF {is_nested} THEN
      nesting := hub.note_nesting({id}, captured);
      IF nesting IS NOT NULL THEN
        EXECUTE hub.disturbed_query({id}, {event}) INTO disturbed USING NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text, NEW, OLD;
        PERFORM hub.put_in_order({kind}, nesting[1], nesting[2], disturbed);
      END IF;
      IF NOT ({bell}) THEN RETURN NULL; END IF;
    END IF;
    PERFORM pg_catalog.pg_notify('hub_doorbell', '');
  END IF;
  RETURN NULL;
END $t$
    -- What costs an ordinary session one expression, for plpgsql prepares each anew in each transaction.
    WHEN 'capture_quickly' THEN $t$
  IF {names_hold}
    AND pg_catalog.current_setting('session_replication_role') OPERATOR(pg_catalog.<>) 'replica'{is_utc} THEN{static}
  ELSE{sessions}{otherwise}
  END IF;$t$
    WHEN 'capture' THEN $t${sessions}
  IF {names_hold} THEN{static}
  ELSE{dynamic}
  END IF;$t$
    -- Instants are written in UTC. A SET clause of the function would cost every session, and most are in UTC.
    WHEN 'is_utc' THEN $t$
    AND pg_catalog.current_setting('TimeZone') OPERATOR(pg_catalog.=) ANY ('{UTC,Etc/UTC,GMT}'::pg_catalog.text[])$t$
    WHEN 'in_utc' THEN $t$
    zone := pg_catalog.current_setting('TimeZone');
    PERFORM pg_catalog.set_config('TimeZone', 'UTC', true);
    IF {names_hold} THEN{static}
    ELSE{dynamic}
    END IF;
    PERFORM pg_catalog.set_config('TimeZone', zone, true);$t$
    WHEN 'is_nested' THEN $t$pg_catalog.pg_trigger_depth() OPERATOR(pg_catalog.>) 1
      OR pg_catalog.current_setting('hub.nested_{id}_1', true) OPERATOR(pg_catalog.<>) ''$t$
    -- Of the rows that replication applies only row triggers are told, so the row trigger captures those, and nothing else does.
    WHEN 'not_applied' THEN $t$
  IF pg_catalog.current_setting('session_replication_role') OPERATOR(pg_catalog.=) 'replica' THEN RETURN NULL; END IF;$t$
    WHEN 'only_applied' THEN $t$
  IF pg_catalog.current_setting('session_replication_role') OPERATOR(pg_catalog.<>) 'replica' THEN RETURN NULL; END IF;$t$
    WHEN 'insert' THEN $t$
    INSERT INTO hub.change (kind, resource_id, type, after, actor, origin, trace)
      SELECT {kind}, {new_id}, 1, {new_row}, {said} FROM new_rows a$t$
    WHEN 'delete' THEN $t$
    INSERT INTO hub.change (kind, resource_id, type, before, actor, origin, trace)
      SELECT {kind}, {old_id}, 3, {old_row}, {said} FROM old_rows b$t$
    -- A changed key leaves an old row and a new row without a partner: a delete and a create, the deletes first.
    WHEN 'update' THEN $t$
    INSERT INTO hub.change (kind, resource_id, type, before, after, actor, origin, trace)
      SELECT {kind}, CASE WHEN {new_key} IS NULL THEN {old_id} ELSE {new_id} END,
             CASE WHEN {new_key} IS NULL THEN 3 WHEN {old_key} IS NULL THEN 1 ELSE 2 END,
             CASE WHEN {old_key} IS NOT NULL THEN {old_row} END, CASE WHEN {new_key} IS NOT NULL THEN {new_row} END, {said}
      FROM old_rows b FULL JOIN new_rows a ON {same_key}
      ORDER BY {new_key} IS NULL DESC$t$
    WHEN 'row_insert' THEN $t$
    INSERT INTO hub.change (kind, resource_id, type, after, actor, origin, trace)
      SELECT {kind}, {new_id}, 1, {new_row}, {said}$t$
    WHEN 'row_delete' THEN $t$
    INSERT INTO hub.change (kind, resource_id, type, before, actor, origin, trace)
      SELECT {kind}, {old_id}, 3, {old_row}, {said}$t$
    WHEN 'row_update' THEN $t$
    INSERT INTO hub.change (kind, resource_id, type, before, after, actor, origin, trace)
      SELECT {kind}, v.resource_id, v.type, v.before, v.after, {said}
      FROM (SELECT 1 AS n, {new_id} AS resource_id, 2 AS type, {old_row} AS before, {new_row} AS after WHERE {same_key}
            UNION ALL SELECT 2, {old_id}, 3, {old_row}, NULL WHERE NOT ({same_key})
            UNION ALL SELECT 3, {new_id}, 1, NULL, {new_row} WHERE NOT ({same_key})) v
      ORDER BY v.n$t$
    WHEN 'truncate' THEN $t$
    INSERT INTO hub.change (kind, resource_id, type, before, actor, origin, trace)
      SELECT {kind}, {old_id}, 3, {old_row}, {said} FROM ONLY {table} b$t$
    -- A snapshot taken earlier may not see every row that TRUNCATE deletes: whoever seals looks whether that is so, and tells.
    WHEN 'truncate_isolation' THEN $t$
  IF pg_catalog.current_setting('transaction_isolation') OPERATOR(pg_catalog.<>) 'read committed' THEN
    INSERT INTO hub.truncated (kind, snapshot, compacted)
      SELECT {kind}, pg_catalog.pg_current_snapshot(), r.compacted FROM hub.retention r;
  END IF;$t$
    -- How a trigger function runs a statement with the names that columns have now. Without a column of its key a row has no
    -- identity, and is not captured: whoever mends the capture begins the table's history anew.
    WHEN 'dynamic' THEN $t$
    EXECUTE coalesce(hub.capture_statement({id}, {event}, true, TG_RELID), 'SELECT WHERE false') USING said[1], said[2], said[3], NEW, OLD;
    GET DIAGNOSTICS captured = ROW_COUNT;$t$
    WHEN 'static_rows' THEN $t$
    IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN{row_insert};
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN{row_delete};
    ELSE{row_update};
    END IF;
    GET DIAGNOSTICS captured = ROW_COUNT;$t$
    WHEN 'static' THEN $t${statement};
    GET DIAGNOSTICS captured = ROW_COUNT;$t$
  END
$template$;
