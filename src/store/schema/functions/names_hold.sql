-- An expression: are the columns of a watched table's key still the ones whose names stand in its capture functions? Postgres
-- compiles those names into static statements; with names that were exchanged they would capture other columns without an error.
-- Nothing but the comparison with TG_RELID is left of it in a plan, which is made anew when the table has changed.
-- Where only some columns are captured, the names of all stand there, and are compared each time.
CREATE OR REPLACE FUNCTION hub.names_hold(watched_id int) RETURNS text LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT format('hub.names_are(%s::pg_catalog.oid, %L::pg_catalog.text[]) AND coalesce(TG_RELID, %L::pg_catalog.regclass) IS NOT NULL',
                w.key_index, hub.column_names(w.relation, w.key), w.relation::oid)
    || coalesce((SELECT format(' AND (SELECT pg_catalog.array_agg(n.attname::pg_catalog.text ORDER BY n.attnum) FROM pg_catalog.pg_attribute n'
                   ' WHERE n.attrelid OPERATOR(pg_catalog.=) %s::pg_catalog.oid AND n.attnum OPERATOR(pg_catalog.>) 0 AND NOT n.attisdropped)'
                   ' OPERATOR(pg_catalog.=) %L::pg_catalog.text[]', w.relation::oid, array_agg(a.attname::text ORDER BY a.attnum)::text)
                 FROM pg_attribute a WHERE a.attrelid = w.relation AND a.attnum > 0 AND NOT a.attisdropped
                   AND hub.captured_columns(w.id) IS NOT NULL
                 HAVING count(*) > 0), '')
  FROM hub.watched w WHERE w.id = watched_id
$$;
