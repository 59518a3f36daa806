-- Are these the names of an index's first columns? IMMUTABLE, which it is not, so that it is asked once for each plan: whoever calls it
-- must also name the table in the same expression as a constant of type regclass, for then a change of the table ends the plan. By
-- pg_get_indexdef, which looks at what is there now and not at what an old snapshot sees.
CREATE OR REPLACE FUNCTION hub.names_are(key_index oid, names text[]) RETURNS boolean LANGUAGE sql IMMUTABLE
  SET search_path = pg_catalog, hub, pg_temp SET quote_all_identifiers = off AS $$
  SELECT coalesce(bool_and(pg_get_indexdef(key_index, n::int, false) IS NOT DISTINCT FROM quote_ident(name)), false)
  FROM unnest(names) WITH ORDINALITY AS k(name, n)
$$;
