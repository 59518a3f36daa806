-- Begins the numbering in a new database; does nothing in any other. In a transaction of its own, which captures nothing: its
-- snapshot is the one from which numbering begins.
CREATE OR REPLACE FUNCTION hub.begin_history() RETURNS void LANGUAGE plpgsql
  SET search_path = pg_catalog, hub, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT FROM hub.head) OR EXISTS (SELECT FROM hub.incarnation) OR EXISTS (SELECT FROM hub.log)
    OR EXISTS (SELECT FROM hub.change) THEN RETURN; END IF;
  INSERT INTO hub.head (revision, snapshot) VALUES (0, pg_current_snapshot());
  INSERT INTO hub.incarnation (epoch, database, system_identifier, timeline)
    SELECT hub.new_epoch(), d.oid, s.system_identifier, hub.timeline()
    FROM pg_database d, pg_control_system() s WHERE d.datname = current_database();
END $$;
