-- The columns of an attached table, in its order, each as a JSON object.
CREATE OR REPLACE FUNCTION hub.attached_columns(watched_id int) RETURNS json LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp SET quote_all_identifiers = off AS $$
  SELECT coalesce(json_agg(json_build_object(
    'name', a.attname, 'type_name', format_type(a.atttypid, a.atttypmod), 'sql_type', format('%I.%I', tn.nspname, t.typname),
    'base_type', CASE WHEN b.typnamespace = 'pg_catalog'::regnamespace THEN b.typname ELSE '' END,
    'number', a.attnum, 'nullable', NOT a.attnotnull, 'generated', a.attgenerated <> '' OR a.attidentity = 'a',
    'enum_labels', (SELECT coalesce(json_agg(e.enumlabel ORDER BY e.enumsortorder), '[]') FROM pg_enum e WHERE e.enumtypid = b.oid),
    'is_long_number', b.oid IN ('int8'::regtype, 'numeric'::regtype, '_int8'::regtype, '_numeric'::regtype),
    'sortable', EXISTS (SELECT FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod
                        WHERE m.amname = 'btree' AND o.opcdefault AND (o.opcintype = b.oid OR o.opcintype = 'anyenum'::regtype AND b.typtype = 'e')),
    -- A virtual generated column has no value in a trigger.
    'visible', a.attgenerated <> 'v'
      AND a.attnum <> ALL (x.hidden) AND a.attname <> ALL (x.hidden_names)
      AND (x.shown IS NULL OR a.attnum = ANY (x.shown) AND a.attname = ANY (x.shown_names)),
    'comment', col_description(a.attrelid, a.attnum)) ORDER BY a.attnum), '[]')
  FROM hub.attached x JOIN hub.watched w ON w.id = x.id
  JOIN pg_attribute a ON a.attrelid = w.relation AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace tn ON tn.oid = t.typnamespace
  CROSS JOIN LATERAL (
    -- Of a domain what it is made of.
    WITH RECURSIVE made(oid, typbasetype) AS (
      SELECT t.oid, t.typbasetype UNION ALL SELECT y.oid, y.typbasetype FROM made m JOIN pg_type y ON y.oid = m.typbasetype)
    SELECT y.* FROM made m JOIN pg_type y ON y.oid = m.oid WHERE m.typbasetype = 0) b
  WHERE x.id = watched_id
$$;
