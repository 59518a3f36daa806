-- Brings what is known of the attached tables up to date: forgets those that were dropped, mends the capture of those that were altered,
-- and counts the changes of their descriptions. Every hub does this at each look.
CREATE OR REPLACE FUNCTION hub.look_after_attached() RETURNS void LANGUAGE plpgsql
  SET search_path = pg_catalog, hub, pg_temp SET quote_all_identifiers = off SET lock_timeout = '200ms' AS $$
DECLARE
  t record;
  digest text;
BEGIN
  FOR t IN SELECT w.id, w.kind, c.oid, x.described
    FROM hub.watched w JOIN hub.attached x ON x.id = w.id LEFT JOIN pg_class c ON c.oid = w.relation ORDER BY w.id
  LOOP
    BEGIN
      IF t.oid IS NULL THEN
        PERFORM hub.detach(t.id, false);
        UPDATE hub.attached x SET detached_at = NULL, relation = NULL WHERE x.id = t.id; -- it was dropped
        CONTINUE;
      END IF;
      IF hub.key_columns(t.oid) IS NOT NULL AND EXISTS (SELECT FROM hub.capture_faults(t.kind)) THEN
        UPDATE hub.watched w SET key = (i.indkey::int2[])[0:i.indnkeyatts - 1], key_index = i.indexrelid, key_names = hub.key_columns(t.oid)
          FROM pg_index i WHERE w.id = t.id AND i.indrelid = t.oid AND i.indisprimary;
        PERFORM hub.install(t.id);
      END IF;
      digest := md5(concat_ws('|', t.oid::regclass::text, hub.attached_columns(t.id)::text, hub.key_columns(t.oid)::text,
                              obj_description(t.oid, 'pg_class')));
      IF digest IS DISTINCT FROM t.described THEN
        UPDATE hub.attached x SET schema_version = x.schema_version + 1, described = digest
          WHERE x.id = t.id AND x.described IS DISTINCT FROM digest;
        PERFORM pg_notify('hub_tables', '');
      END IF;
    EXCEPTION WHEN lock_not_available OR deadlock_detected OR undefined_table OR undefined_object OR undefined_column
        OR insufficient_privilege OR unique_violation THEN
      -- The next look finds it again; meanwhile hub.capture_faults tells it.
      NULL;
    END;
  END LOOP;
END $$;
