-- What is told of an attached table, as a JSON object; NULL for any other. `before`: its structure at the last look. `renamed`: what columns
-- were called then, by the names that they have; `gone`: names whose columns do not have them any more; `retyped`: columns of another type.
CREATE OR REPLACE FUNCTION hub.description(watched_id int, before jsonb) RETURNS json LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp SET quote_all_identifiers = off AS $$
  SELECT json_build_object('id', w.id, 'kind', w.kind, 'schema', n.nspname, 'name', c.relname, 'schema_version', a.schema_version,
    'attached_revision', coalesce(a.attached_revision, 0), 'columns', hub.attached_columns(w.id), 'key', hub.column_names(w.relation, w.key),
    'comment', obj_description(c.oid, 'pg_class'), 'renamed', x.renamed, 'gone', x.gone, 'retyped', x.retyped)
  FROM hub.attached a JOIN hub.watched w ON w.id = a.id JOIN pg_class c ON c.oid = w.relation JOIN pg_namespace n ON n.oid = c.relnamespace
  CROSS JOIN LATERAL (
    SELECT coalesce(json_object_agg(t.attname, b.value ->> 'name') FILTER (WHERE t.attname <> b.value ->> 'name'), '{}') AS renamed,
           coalesce(json_agg(b.value ->> 'name') FILTER (WHERE t.attname IS DISTINCT FROM b.value ->> 'name'), '[]') AS gone,
           coalesce(json_agg(t.attname) FILTER (WHERE t.atttypid::bigint <> (b.value ->> 'type')::bigint), '[]') AS retyped
    FROM jsonb_each(before -> 'columns') b
    LEFT JOIN pg_attribute t ON t.attrelid = c.oid AND t.attnum = b.key::int2 AND NOT t.attisdropped) x
  WHERE a.id = watched_id
$$;
