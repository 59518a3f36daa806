-- A query for all rows of a kind as they are now, with their resource ids, each written as the capture writes it; and the table.
CREATE OR REPLACE FUNCTION hub.state_query(wanted_kind text) RETURNS TABLE (relation text, query text) LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp SET quote_all_identifiers = off AS $$
  SELECT n.name, format('SELECT %s, (%s)::pg_catalog.text FROM %s t', hub.key_expression(hub.column_names(w.relation, w.key), 't'),
                        hub.row_expression('t.*', 't', hub.captured_columns(w.id)), n.name)
  FROM hub.watched w JOIN pg_class c ON c.oid = w.relation JOIN pg_namespace s ON s.oid = c.relnamespace
  CROSS JOIN LATERAL (SELECT format('%I.%I', s.nspname, c.relname) AS name) n
  WHERE w.kind = wanted_kind
$$;
