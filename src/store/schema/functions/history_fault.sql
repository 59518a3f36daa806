-- Why the numbers of this database may not mean what they meant; NULL: they do. SQLSTATE TX001 carries it to the hubs.
-- `thorough` also reads the control file, which is too slow for every seal.
CREATE OR REPLACE FUNCTION hub.history_fault(thorough boolean) RETURNS text LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT CASE
    WHEN i.epoch IS NULL OR h.revision IS NULL THEN 'the head or the incarnation is missing'
    WHEN i.xmin <> i.born::xid OR i.database <> d.oid THEN 'this is a copy of another database'
    WHEN pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax(h.snapshot) THEN 'transaction ids went backwards'
    WHEN i.timeline <> hub.timeline() THEN 'the server is on another timeline'
    WHEN thorough AND i.system_identifier <> (SELECT s.system_identifier FROM pg_control_system() s) THEN 'this is another server'
  END
  FROM pg_database d LEFT JOIN hub.incarnation i ON true LEFT JOIN hub.head h ON true
  WHERE d.datname = current_database()
$$;
