-- A statement of the capture of a watched table, with the names that its columns have now. `dynamic`: for EXECUTE with actor, origin,
-- trace, NEW and OLD as its parameters; else for the body of a function. NULL: a column of the key is gone.
CREATE OR REPLACE FUNCTION hub.capture_statement(watched_id int, part text, dynamic boolean, of_table regclass) RETURNS text
  LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT hub.fill(hub.capture_template(part), jsonb_build_object(
    'kind', quote_literal(w.kind),
    'said', CASE WHEN dynamic THEN '$1, $2, $3' ELSE 'said[1], said[2], said[3]' END,
    'new_id', hub.key_expression(k.names, r.new), 'old_id', hub.key_expression(k.names, r.old),
    'new_key', format('%s.%I', r.new, k.names[1]), 'old_key', format('%s.%I', r.old, k.names[1]),
    'new_row', hub.row_expression(r.whole_new, r.new, k.columns),
    'old_row', hub.row_expression(r.whole_old, r.old, k.columns),
    'same_key', hub.same_key(k.names, r.old, r.new),
    'same_as_new', hub.same_key(k.names, 'a', CASE WHEN dynamic THEN '($4)' ELSE 'NEW' END),
    'same_as_old', hub.same_key(k.names, 'b', CASE WHEN dynamic THEN '($5)' ELSE 'OLD' END),
    'table', of_table::text))
  FROM hub.watched w
  CROSS JOIN LATERAL (SELECT hub.column_names(w.relation, w.key) AS names, hub.captured_columns(w.id) AS columns) k
  CROSS JOIN LATERAL (SELECT
    CASE WHEN left(part, 3) <> 'row' THEN 'a' WHEN dynamic THEN '($4)' ELSE 'NEW' END AS new,
    CASE WHEN left(part, 3) <> 'row' THEN 'b' WHEN dynamic THEN '($5)' ELSE 'OLD' END AS old,
    CASE WHEN left(part, 3) <> 'row' THEN 'a.*' WHEN dynamic THEN '$4' ELSE 'NEW' END AS whole_new,
    CASE WHEN left(part, 3) <> 'row' THEN 'b.*' WHEN dynamic THEN '$5' ELSE 'OLD' END AS whole_old) r
  WHERE w.id = watched_id AND cardinality(k.names) = cardinality(w.key)
$$;
