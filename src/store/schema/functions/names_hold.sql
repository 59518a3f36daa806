-- An expression: are the columns of a watched table's key still the ones whose names stand in its capture functions? Postgres
-- compiles those names into static statements; with names that were exchanged they would capture other columns without an error.
-- Nothing but the comparison with TG_RELID is left of it in a plan, which is made anew when the table has changed.
CREATE OR REPLACE FUNCTION hub.names_hold(watched_id int) RETURNS text LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT format('hub.names_are(%s::pg_catalog.oid, %L::pg_catalog.text[]) AND coalesce(TG_RELID, %L::pg_catalog.regclass) IS NOT NULL',
                w.key_index, hub.column_names(w.relation, w.key), w.relation::oid)
  FROM hub.watched w WHERE w.id = watched_id
$$;
