-- A digest of everything that a watched table's capture functions are made of.
CREATE OR REPLACE FUNCTION hub.capture_shape(watched_id int) RETURNS text LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT md5(concat_ws('|', w.kind, w.key::text, w.key_index, k.names::text, hub.captured_columns(w.id)::text,
    hub.capture_mode(w.relation), hub.capture_settings(w.relation, k.names, 'insert', hub.capture_mode(w.relation))::text,
    hub.writes_instants(w.relation),
    (SELECT string_agg(f.digest, '' ORDER BY f.name) FROM hub.function f
     WHERE f.name IN ('capture_template', 'capture_statement', 'capture_source', 'bell_expression', 'key_expression', 'names_are', 'names_hold',
                      'row_expression', 'same_key'))))
  FROM hub.watched w CROSS JOIN LATERAL (SELECT hub.column_names(w.relation, w.key) AS names) k
  WHERE w.id = watched_id
$$;
