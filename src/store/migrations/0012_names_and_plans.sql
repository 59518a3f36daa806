-- A table that was renamed goes on being captured while the one that took its name is not: that is a fault, and watching the new one ends
-- the capture of the old one. Retention keeps its plan, whatever the sizes of transactions. And whoever may create functions in the
-- database lends the hub none.

-- Triggers of a kind's capture that should not be where they are; a clone goes with the trigger of the table above.
CREATE FUNCTION hub.misplaced_triggers(wanted_kind text) RETURNS TABLE (relation regclass, name name, is_clone boolean) LANGUAGE sql STABLE AS $$
  SELECT g.tgrelid, g.tgname, g.tgparentid <> 0
  FROM pg_trigger g
  WHERE (g.tgfoid IN (SELECT to_regproc(hub.capture_function(wanted_kind, e.event))::oid FROM hub.capture_events() e(event))
         OR g.tgname LIKE '!trex\_%' AND g.tgrelid IN (SELECT p.part FROM hub.watched w CROSS JOIN hub.parts(w.relation) p WHERE w.kind = wanted_kind))
    AND NOT EXISTS (SELECT FROM hub.wanted_triggers(wanted_kind) t WHERE t.relation = g.tgrelid AND t.name = g.tgname)
$$;

-- What is wrong with the capture of a kind; no row: nothing.
CREATE OR REPLACE FUNCTION hub.capture_faults(wanted_kind text) RETURNS TABLE (fault text) LANGUAGE sql STABLE AS $$
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
  SELECT format('%s: trigger %s does not belong here', t.relation, t.name) FROM hub.misplaced_triggers(wanted_kind) t
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

-- The same, and whether the table that is captured still has the name under which it is to be watched.
CREATE FUNCTION hub.capture_faults(wanted_kind text, wanted_table text) RETURNS TABLE (fault text) LANGUAGE sql STABLE AS $$
  SELECT hub.capture_faults(wanted_kind)
  UNION ALL
  SELECT format('%s: changes of this table are not captured, but those of %s', wanted_table, w.relation)
    FROM hub.watched w JOIN pg_class c ON c.oid = w.relation
    WHERE w.kind = wanted_kind AND wanted_table IS NOT NULL AND to_regclass(wanted_table) IS DISTINCT FROM w.relation
$$;

-- Watches a table, or mends its capture. Takes no lock on the table when nothing is wrong.
CREATE OR REPLACE FUNCTION hub.watch(new_kind text, new_relation regclass) RETURNS void LANGUAGE plpgsql AS $$
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

  FOR t IN SELECT m.relation, m.name FROM hub.misplaced_triggers(new_kind) m WHERE NOT m.is_clone LOOP
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

-- Deletes at most about `step` changes below the floor. Returns how many rows went; 0: nothing is left to delete, or another hub is at it.
CREATE OR REPLACE FUNCTION hub.delete_below_floor(step int) RETURNS bigint LANGUAGE plpgsql
  -- By the index, always: where a few large transactions make up most of the table, the planner would rather read it all.
  SET enable_seqscan = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  deleted bigint := 0;
  n bigint;
  bounds record;
  t record;
BEGIN
  IF NOT pg_try_advisory_xact_lock(1953654136, 5) THEN RETURN 0; END IF;
  SELECT r.low_water, r.compacted INTO STRICT bounds FROM hub.retention r;
  FOR t IN SELECT l.revision, l.xid FROM hub.log l WHERE l.revision > bounds.low_water AND l.revision <= bounds.compacted
    ORDER BY l.revision LIMIT step
  LOOP
    DELETE FROM hub.change WHERE xid = t.xid AND seq IN (SELECT c.seq FROM hub.change c WHERE c.xid = t.xid ORDER BY c.seq LIMIT step - deleted);
    GET DIAGNOSTICS n = ROW_COUNT;
    deleted := deleted + n;
    EXIT WHEN EXISTS (SELECT FROM hub.change c WHERE c.xid = t.xid);
    DELETE FROM hub.log WHERE revision = t.revision;
    UPDATE hub.retention SET low_water = t.revision;
    deleted := deleted + 1;
    EXIT WHEN deleted >= step;
  END LOOP;
  RETURN deleted;
END $$;
ALTER FUNCTION hub.raise_floor(interval, bigint, int) SET enable_seqscan = off;
ALTER FUNCTION hub.raise_floor(interval, bigint, int) SET jit = off;
ALTER FUNCTION hub.raise_floor(interval, bigint, int) SET plan_cache_mode = force_generic_plan;

-- Whoever follows the trail looks for the beginning of a new history.
CREATE INDEX audit_gap ON hub.audit (epoch, revision) WHERE type = 0;

-- A function of the same name and of types that fit better, in a schema that others may write to, would be called instead of Postgres' own,
-- with the rights of the hub. The capture functions qualify every name.
DO $$
DECLARE
  f regprocedure;
BEGIN
  FOR f IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'hub'::regnamespace AND p.prorettype <> 'trigger'::regtype LOOP
    EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, hub, pg_temp', f);
  END LOOP;
END $$;
