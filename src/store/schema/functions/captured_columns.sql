-- The columns whose values are captured; NULL: all.
CREATE OR REPLACE FUNCTION hub.captured_columns(watched_id int) RETURNS text[] LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT array_agg(a.attname::text ORDER BY a.attnum)
  FROM hub.attached t JOIN hub.watched w ON w.id = t.id JOIN pg_attribute a ON a.attrelid = w.relation
  WHERE t.id = watched_id AND cardinality(t.never_stored_names) > 0 AND a.attnum > 0 AND NOT a.attisdropped
    AND a.attnum <> ALL (t.never_stored) AND a.attname <> ALL (t.never_stored_names)
$$;
