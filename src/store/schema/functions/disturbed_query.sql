-- A query for the ids of rows that are not as the statement that was just captured left them. Its parameters are those of
-- hub.capture_statement; its rows are the statement's own, so no value has to be read back from JSON.
CREATE OR REPLACE FUNCTION hub.disturbed_query(watched_id int, part text) RETURNS text LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT hub.fill(CASE
      WHEN part = 'insert' THEN
        'SELECT pg_catalog.array_agg({new_id}) FROM new_rows a LEFT JOIN {table} t ON {is_new} WHERE {differs}'
      WHEN part = 'delete' THEN 'SELECT pg_catalog.array_agg({old_id}) FROM old_rows b JOIN {table} t ON {is_old}'
      WHEN part = 'update' THEN
        'SELECT pg_catalog.array_agg(d.id) FROM (
           SELECT {new_id} AS id FROM new_rows a LEFT JOIN {table} t ON {is_new} WHERE {differs}
           UNION ALL SELECT {old_id} FROM old_rows b JOIN {table} t ON {is_old}
             WHERE NOT EXISTS (SELECT FROM new_rows a WHERE {same_key})) d'
      WHEN part = 'row_insert' THEN
        'SELECT pg_catalog.array_agg({new_id}) FROM (VALUES (1)) one LEFT JOIN {table} t ON {is_new} WHERE {differs}'
      WHEN part = 'row_delete' THEN 'SELECT pg_catalog.array_agg({old_id}) FROM {table} t WHERE {is_old}'
      WHEN part = 'row_update' THEN
        'SELECT pg_catalog.array_agg(d.id) FROM (
           SELECT {new_id} AS id FROM (VALUES (1)) one LEFT JOIN {table} t ON {is_new} WHERE {differs}
           UNION ALL SELECT {old_id} FROM {table} t WHERE {is_old} AND NOT ({same_key})) d'
      ELSE 'SELECT NULL::pg_catalog.text[]' END,
    jsonb_build_object(
      'table', format('%I.%I', s.nspname, c.relname),
      'new_id', hub.key_expression(k.names, r.new), 'old_id', hub.key_expression(k.names, r.old),
      'same_key', hub.same_key(k.names, r.old, r.new),
      'is_new', coalesce(hub.equal_key(w.key_index, 't', r.new), hub.same_key(k.names, 't', r.new)),
      'is_old', coalesce(hub.equal_key(w.key_index, 't', r.old), hub.same_key(k.names, 't', r.old)),
      'differs', format('(%s)::pg_catalog.text COLLATE pg_catalog."C" IS DISTINCT FROM (%s)::pg_catalog.text',
                        hub.row_expression('t.*', 't', k.columns), hub.row_expression(r.whole_new, r.new, k.columns))))
  FROM hub.watched w JOIN pg_class c ON c.oid = w.relation JOIN pg_namespace s ON s.oid = c.relnamespace
  CROSS JOIN LATERAL (SELECT hub.column_names(w.relation, w.key) AS names, hub.captured_columns(w.id) AS columns) k
  CROSS JOIN LATERAL (SELECT CASE WHEN left(part, 3) = 'row' THEN '($4)' ELSE 'a' END AS new,
                             CASE WHEN left(part, 3) = 'row' THEN '($5)' ELSE 'b' END AS old,
                             CASE WHEN left(part, 3) = 'row' THEN '$4' ELSE 'a.*' END AS whole_new) r
  WHERE w.id = watched_id
$$;
