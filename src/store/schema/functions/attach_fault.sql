-- Why a table cannot be attached, and what would help; NULL: it can be, or is attached already.
CREATE OR REPLACE FUNCTION hub.attach_fault(wanted regclass) RETURNS text LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp SET quote_all_identifiers = off AS $$
  SELECT CASE
    WHEN n.nspname IN ('hub', 'pg_catalog', 'information_schema', 'pg_toast') OR left(n.nspname, 7) = 'pg_temp'
      THEN format('%s is in schema %s, whose tables cannot be attached', t.name, n.nspname)
    WHEN c.relkind IN ('v', 'm') THEN format('%s is a view: attach the tables that it reads', t.name)
    WHEN c.relkind = 'f' THEN format('%s is a foreign table: attach it where it is', t.name)
    WHEN c.relkind NOT IN ('r', 'p') THEN format('%s is no table', t.name)
    WHEN c.relpersistence <> 'p'
      THEN format('%s is not permanent, so that a crash empties it without an event: ALTER TABLE %1$s SET LOGGED', t.name)
    WHEN w.kind LIKE '#%' THEN NULL
    WHEN w.kind IS NOT NULL THEN format('%s is watched already, as the compiled kind %s', t.name, w.kind)
    WHEN above.name IS NOT NULL THEN format('%s is part of %s, which is attached and has its rows', t.name, above.name)
    WHEN below.name IS NOT NULL THEN format('%s is attached, which is a part of %s: trex detach %1$s', below.name, t.name)
    WHEN NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
      THEN format('%s has no primary key, so its rows have no identity: ALTER TABLE %1$s ADD PRIMARY KEY (...)', t.name)
    WHEN c.relrowsecurity AND row_security_active(c.oid)
      THEN format('%s has row security, which hides rows from %s: ALTER ROLE %2$s BYPASSRLS', t.name, quote_ident(current_user))
  END
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  CROSS JOIN LATERAL (SELECT format('%I.%I', n.nspname, c.relname) AS name) t
  LEFT JOIN hub.watched w ON w.relation = c.oid
  LEFT JOIN LATERAL (
    WITH RECURSIVE up(oid) AS (SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = c.oid
                               UNION SELECT i.inhparent FROM pg_inherits i JOIN up ON i.inhrelid = up.oid)
    SELECT x.relation::text AS name FROM up JOIN hub.watched x ON x.relation = up.oid LIMIT 1) above ON true
  LEFT JOIN LATERAL (
    WITH RECURSIVE down(oid) AS (SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = c.oid
                                 UNION SELECT i.inhrelid FROM pg_inherits i JOIN down ON i.inhparent = down.oid)
    SELECT x.relation::text AS name FROM down JOIN hub.watched x ON x.relation = down.oid LIMIT 1) below ON true
  WHERE c.oid = wanted
$$;
