-- An expression: are the columns of a watched table's key still the ones whose names stand in its capture functions? Postgres
-- compiles those names into static statements; with names that were exchanged they would capture other columns without an error.
-- `quote_all_identifiers` makes it false, which only costs time.
CREATE OR REPLACE FUNCTION hub.names_hold(watched_id int) RETURNS text LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp SET quote_all_identifiers = off AS $$
  SELECT string_agg(format('pg_catalog.pg_get_indexdef(%s::pg_catalog.oid, %s, false) OPERATOR(pg_catalog.=) %L',
                           w.key_index, k.n, quote_ident(a.attname)), ' AND ' ORDER BY k.n)
  FROM hub.watched w CROSS JOIN unnest(w.key) WITH ORDINALITY AS k(number, n)
  JOIN pg_attribute a ON a.attrelid = w.relation AND a.attnum = k.number
  WHERE w.id = watched_id
$$;
