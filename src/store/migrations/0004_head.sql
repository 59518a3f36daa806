-- In a transaction of its own, which captures nothing: the snapshot from which numbering begins.
INSERT INTO hub.head (revision, snapshot) VALUES (0, pg_current_snapshot());
INSERT INTO hub.incarnation (epoch, database, system_identifier, timeline)
  SELECT hub.new_epoch(), d.oid, s.system_identifier, hub.timeline()
  FROM pg_database d, pg_control_system() s WHERE d.datname = current_database();
