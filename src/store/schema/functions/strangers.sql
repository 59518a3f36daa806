-- What other tools have put on the hub's own tables, and how it is taken off: triggers, which would run within each captured statement
-- and could fail it, and row security, which could hide rows from a hub or refuse what is captured.
CREATE OR REPLACE FUNCTION hub.strangers() RETURNS TABLE (what text, remedy text) LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp SET quote_all_identifiers = off AS $$
  SELECT format('trigger %s on %s', t.tgname, c.oid::regclass), format('ALTER TABLE %s DISABLE TRIGGER %I', c.oid::regclass, t.tgname)
  FROM pg_class c JOIN pg_trigger t ON t.tgrelid = c.oid
  WHERE c.relnamespace = to_regnamespace('hub') AND NOT t.tgisinternal AND t.tgenabled <> 'D'
  UNION ALL
  SELECT format('row security on %s', c.oid::regclass),
    format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', c.oid::regclass)
  FROM pg_class c WHERE c.relnamespace = to_regnamespace('hub') AND (c.relrowsecurity OR c.relforcerowsecurity)
$$;
