-- A digest of what is told of an attached table; NULL for any other.
CREATE OR REPLACE FUNCTION hub.description_digest(watched_id int) RETURNS text LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp SET quote_all_identifiers = off AS $$
  SELECT md5(concat_ws('|', format('%I.%I', n.nspname, c.relname), hub.attached_columns(w.id)::text, hub.key_columns(c.oid)::text,
                       obj_description(c.oid, 'pg_class')))
  FROM hub.attached a JOIN hub.watched w ON w.id = a.id JOIN pg_class c ON c.oid = w.relation JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE a.id = watched_id
$$;
