-- The triggers that a watched table and its partitions must have, in this mode.
-- `enabled`: O in ordinary sessions, R while replication applies changes (statement triggers do not fire then), A in both. `also`: a
-- state that does no harm, for the functions look at the session themselves.
CREATE OR REPLACE FUNCTION hub.wanted_triggers(wanted_id int, wanted_mode text)
  RETURNS TABLE (relation regclass, depth int, name text, function text, event text, level text, enabled "char", also "char", tgtype int,
    old_table text, new_table text)
  LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  WITH w AS MATERIALIZED (SELECT s.id, s.relation AS root, wanted_mode AS mode FROM hub.watched s JOIN pg_class c ON c.oid = s.relation WHERE s.id = wanted_id),
       parts AS MATERIALIZED (SELECT p.part, p.depth, w.* FROM w CROSS JOIN hub.parts(w.root) p)
  SELECT part, depth, hub.trigger_name(id, t.name), hub.capture_function(id, t.name), t.event, t.level, 'O'::"char", 'A'::"char", t.tgtype,
    t.old_table, t.new_table
  FROM parts JOIN (VALUES
    -- tgtype: 1 row, 2 before, 4 insert, 8 delete, 16 update, 32 truncate
    ('statement', 'insert', 'AFTER INSERT', 'STATEMENT', 4,  NULL,       'new_rows'),
    ('statement', 'update', 'AFTER UPDATE', 'STATEMENT', 16, 'old_rows', 'new_rows'),
    ('statement', 'delete', 'AFTER DELETE', 'STATEMENT', 8,  'old_rows', NULL)
  ) AS t(mode, name, event, level, tgtype, old_table, new_table) USING (mode)
  UNION ALL
  SELECT part, depth, hub.trigger_name(id, 'truncate'), hub.capture_function(id, 'truncate'), 'BEFORE TRUNCATE', 'STATEMENT', 'A', 'A', 34, NULL, NULL
  FROM parts
  UNION ALL
  -- A row trigger on a partitioned table is cloned to its partitions.
  SELECT part, depth, hub.trigger_name(id, 'row'), hub.capture_function(id, 'row'), 'AFTER INSERT OR UPDATE OR DELETE', 'ROW',
    (CASE WHEN mode = 'row' THEN 'A' ELSE 'R' END)::"char", 'A', 29, NULL, NULL
  FROM parts
$$;
