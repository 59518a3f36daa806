-- Statement triggers fire after all row triggers. Where those, or a cascade, can change a row of the statement again, that second
-- change would be captured before the first. How a table is captured, so that it is not:
--   statement  after the statement, all its rows at once
--   first      the same, but by the trigger of its first row, which fires before the table's own AFTER ROW triggers
--   row        each row by itself: cascades queue their rows behind those of the statement that caused them and share its transition
--              tables, so that one row may be in them twice; and a partition's row triggers can have no transition tables
-- Slower in this order.
CREATE OR REPLACE FUNCTION hub.capture_mode(relation regclass) RETURNS text LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT CASE
    WHEN relation IN (SELECT hub.cascades_to(relation)) THEN 'row'
    -- One statement on a parent can reach a row through several foreign keys.
    WHEN (SELECT count(*) FROM pg_constraint c JOIN hub.parts(relation) p ON c.conrelid = p.part
          WHERE c.contype = 'f' AND c.conparentid = 0 AND (c.confupdtype IN ('c', 'n', 'd') OR c.confdeltype IN ('c', 'n', 'd'))) > 1 THEN 'row'
    WHEN EXISTS (SELECT FROM pg_trigger t JOIN hub.cascades_to(relation) c ON t.tgrelid = c
                 WHERE NOT t.tgisinternal AND left(t.tgname, 6) <> '!trex_' AND t.tgtype & 2 = 0) THEN 'row'
    WHEN NOT EXISTS (SELECT FROM pg_trigger t JOIN hub.parts(relation) p ON t.tgrelid = p.part
                     WHERE NOT t.tgisinternal AND left(t.tgname, 6) <> '!trex_' AND t.tgtype & 1 = 1 AND t.tgtype & 2 = 0) THEN 'statement'
    WHEN EXISTS (SELECT FROM pg_class WHERE oid = relation AND relkind = 'p')
      OR EXISTS (SELECT FROM pg_inherits WHERE inhrelid = relation) THEN 'row'
    ELSE 'first'
  END
$$;
