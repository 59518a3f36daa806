-- Watches a table as a kind that is compiled into the program, or mends its capture. Takes no lock on the table when nothing is
-- wrong.
CREATE OR REPLACE FUNCTION hub.watch(new_kind text, new_relation regclass) RETURNS void LANGUAGE plpgsql
  SET search_path = pg_catalog, hub, pg_temp SET quote_all_identifiers = off AS $$
DECLARE
  known int;
BEGIN
  IF hub.key_columns(new_relation) IS NULL THEN
    RAISE EXCEPTION 'table % has no primary key, so its rows have no identity to watch', new_relation
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  SELECT w.id INTO known FROM hub.watched w WHERE w.kind = new_kind;
  IF known IS NULL THEN
    INSERT INTO hub.watched (kind, relation, key, key_index, key_names)
      SELECT new_kind, new_relation, (i.indkey::int2[])[0:i.indnkeyatts - 1], i.indexrelid, hub.key_columns(new_relation)
      FROM pg_index i WHERE i.indrelid = new_relation AND i.indisprimary RETURNING id INTO known;
    PERFORM hub.install(known);
  ELSE
    UPDATE hub.watched w SET relation = new_relation WHERE w.id = known AND w.relation <> new_relation;
    PERFORM hub.mend(known, true);
  END IF;
END $$;
