-- Statement triggers fire after all row triggers. Where those, or a cascade, can change a row of the statement again, that second
-- change would be captured before the first. How a table is captured, so that it is not:
--   statement  after the statement, all its rows at once
--   row        each row by itself, before the table's own AFTER ROW triggers: cascades queue their rows behind those of the statement
--              that caused them and share its transition tables, so that one row may be in them twice
-- Slower in this order. A row trigger with transition tables would come before the table's own, too; but a table that has one can
-- become no partition and inherit nothing, and its owner's ALTER TABLE would fail.
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
    -- A deferrable key may be exchanged between rows by one statement, and row by row that is not to be told from a delete. What the
    -- table's own triggers do is put in order afterwards (hub.put_in_order).
    WHEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = relation AND i.indisprimary AND NOT i.indimmediate) THEN 'statement'
    ELSE 'row'
  END
$$;
