-- Brings what is known of the watched tables up to date: forgets attached ones that were dropped, mends the capture of those that were
-- altered, and tells what happened. Every hub does this at each look. `kinds` and `tables`: the compiled kinds and the tables that
-- they are to be of, whichever has that name now. Begins behind the table of this id, and returns the first where there was something to be
-- done, so that its locks are let go before the next one is looked at; NULL: that was all.
CREATE OR REPLACE FUNCTION hub.look_after_tables(kinds text[], tables text[], behind int) RETURNS int LANGUAGE plpgsql
  SET search_path = pg_catalog, hub, pg_temp SET quote_all_identifiers = off SET lock_timeout = '200ms' AS $$
DECLARE
  t record;
BEGIN
  FOR t IN SELECT w.id, w.kind, w.relation, x.id IS NOT NULL AS is_attached, c.oid IS NULL AS is_gone, to_regclass(k.name) AS named
    FROM hub.watched w LEFT JOIN hub.attached x ON x.id = w.id LEFT JOIN pg_class c ON c.oid = w.relation
    LEFT JOIN unnest(kinds, tables) k(kind, name) ON k.kind = w.kind WHERE w.id > behind ORDER BY w.id
  LOOP
    BEGIN
      IF t.is_attached AND t.is_gone THEN
        PERFORM hub.detach(t.id, false);
        UPDATE hub.attached x SET detached_at = NULL, relation = NULL WHERE x.id = t.id; -- it was dropped
        RETURN t.id;
      ELSIF t.named <> t.relation AND hub.key_columns(t.named) IS NOT NULL THEN
        PERFORM hub.watch(t.kind, t.named);
        RETURN t.id;
      ELSIF hub.mend(t.id, t.is_attached) THEN
        RETURN t.id;
      END IF;
    EXCEPTION WHEN lock_not_available OR deadlock_detected OR undefined_table OR undefined_object OR undefined_column
        OR insufficient_privilege OR unique_violation OR object_in_use THEN
      -- The next look finds it again; meanwhile hub.capture_faults tells it.
      NULL;
    END;
  END LOOP;
  RETURN NULL;
END $$;
