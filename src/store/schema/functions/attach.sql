-- Attaches a table, or says anew which of its columns may be seen. Returns its id. Waits for no lock for long, for its writers would
-- queue behind: the caller tries again.
CREATE OR REPLACE FUNCTION hub.attach(wanted_schema text, wanted_name text, only_columns text[], hide text[], leave_out text[]) RETURNS int
  LANGUAGE plpgsql
  SET search_path = pg_catalog, hub, pg_temp SET quote_all_identifiers = off SET lock_timeout = '200ms' AS $$
DECLARE
  found_table regclass;
  fault text;
  new_id int;
BEGIN
  SELECT c.oid INTO found_table FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = wanted_schema AND c.relname = wanted_name;
  IF found_table IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'TX002', MESSAGE = format('there is no table %I.%I', wanted_schema, wanted_name);
  END IF;
  -- One at a time: of two that attach the same table the second finds it.
  PERFORM pg_advisory_xact_lock(hub.lock_class(), 4);
  fault := hub.attach_fault(found_table);
  IF fault IS NULL THEN
    SELECT format('%I.%I has no column %I', wanted_schema, wanted_name, x.name) INTO fault
      FROM unnest(only_columns || hide || leave_out) x(name)
      WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = found_table AND a.attname = x.name AND a.attnum > 0 AND NOT a.attisdropped)
      LIMIT 1;
  END IF;
  IF fault IS NULL THEN
    SELECT format('column %I is part of the key, by which rows are told: it must be seen', k.name) INTO fault
      FROM unnest(hub.key_columns(found_table)) k(name)
      WHERE k.name = ANY (hide || leave_out) OR cardinality(only_columns) > 0 AND k.name <> ALL (only_columns)
      LIMIT 1;
  END IF;
  IF fault IS NOT NULL THEN RAISE EXCEPTION USING ERRCODE = 'TX002', MESSAGE = fault; END IF;

  SELECT w.id INTO new_id FROM hub.watched w WHERE w.relation = found_table;
  IF new_id IS NULL THEN
    INSERT INTO hub.watched (kind, relation, key, key_index, key_names)
      SELECT '#', found_table, (i.indkey::int2[])[0:i.indnkeyatts - 1], i.indexrelid, hub.key_columns(found_table)
      FROM pg_index i WHERE i.indrelid = found_table AND i.indisprimary
      RETURNING id INTO new_id;
    UPDATE hub.watched w SET kind = '#' || w.id WHERE w.id = new_id;
    UPDATE hub.attached a SET relation = NULL WHERE a.relation = found_table;
    INSERT INTO hub.attached (id, relation) VALUES (new_id, found_table);
  END IF;
  UPDATE hub.attached a SET
      shown = CASE WHEN cardinality(only_columns) > 0 THEN hub.column_numbers(found_table, only_columns) END,
      shown_names = CASE WHEN cardinality(only_columns) > 0 THEN only_columns END,
      hidden = hub.column_numbers(found_table, hide || leave_out), hidden_names = hide || leave_out,
      never_stored = hub.column_numbers(found_table, leave_out), never_stored_names = leave_out
    WHERE a.id = new_id;
  PERFORM hub.mend(new_id, true);
  RETURN new_id;
END $$;
