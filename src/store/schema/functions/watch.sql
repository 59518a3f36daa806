-- Watches a table as a kind that is compiled into the program, or mends its capture. Takes no lock on the table when nothing is
-- wrong.
CREATE OR REPLACE FUNCTION hub.watch(new_kind text, new_relation regclass) RETURNS void LANGUAGE plpgsql
  SET search_path = pg_catalog, hub, pg_temp SET quote_all_identifiers = off AS $$
BEGIN
  IF hub.key_columns(new_relation) IS NULL THEN
    RAISE EXCEPTION 'table % has no primary key, so its rows have no identity to watch', new_relation
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  IF EXISTS (SELECT FROM hub.watched w WHERE w.kind = new_kind AND w.relation = new_relation)
    AND NOT EXISTS (SELECT FROM hub.capture_faults(new_kind)) THEN RETURN; END IF;
  INSERT INTO hub.watched (kind, relation, key, key_index, key_names)
    SELECT new_kind, new_relation, (i.indkey::int2[])[0:i.indnkeyatts - 1], i.indexrelid, hub.key_columns(new_relation)
    FROM pg_index i WHERE i.indrelid = new_relation AND i.indisprimary
    ON CONFLICT (kind) DO UPDATE SET relation = excluded.relation, key = excluded.key, key_index = excluded.key_index,
      key_names = excluded.key_names;
  PERFORM hub.install((SELECT w.id FROM hub.watched w WHERE w.kind = new_kind));
END $$;
