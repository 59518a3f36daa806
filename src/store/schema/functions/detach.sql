-- Ends the capture of an attached table. `purge`: what was captured of it is blanked; its numbers stay, for the log has no gaps.
CREATE OR REPLACE FUNCTION hub.detach(watched_id int, purge boolean) RETURNS void LANGUAGE plpgsql
  SET search_path = pg_catalog, hub, pg_temp SET quote_all_identifiers = off SET lock_timeout = '200ms' AS $$
DECLARE
  t record;
BEGIN
  PERFORM pg_advisory_xact_lock(hub.lock_class(), 4);
  -- A clone goes with the trigger of the table above.
  FOR t IN SELECT g.tgrelid::regclass AS relation, g.tgname FROM pg_trigger g
    WHERE g.tgparentid = 0
      AND g.tgfoid IN (SELECT to_regproc(hub.capture_function(watched_id, e.event))::oid FROM hub.capture_events() e(event))
  LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', t.tgname, t.relation);
  END LOOP;
  FOR t IN SELECT hub.capture_function(watched_id, e.event) AS name FROM hub.capture_events() e(event) LOOP
    EXECUTE format('DROP FUNCTION IF EXISTS %s()', t.name);
  END LOOP;
  DELETE FROM hub.watched w WHERE w.id = watched_id;
  UPDATE hub.attached a SET detached_at = clock_timestamp() WHERE a.id = watched_id;
  IF purge THEN
    UPDATE hub.change c SET after = NULL, before = NULL WHERE c.kind = '#' || watched_id;
    UPDATE hub.audit c SET after = NULL, before = NULL WHERE c.kind = '#' || watched_id;
    DELETE FROM hub.dead_letter c WHERE c.kind = '#' || watched_id;
  END IF;
  PERFORM pg_notify('hub_tables', '');
END $$;
