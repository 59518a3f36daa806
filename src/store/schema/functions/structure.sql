-- Everything that tells whether the rows of a table may have changed without a statement on them, and what else is told of its changes:
--   relation, name  which it is
--   key             the columns of the primary key, by number
--   columns         by number; `made`: the transaction that made or altered it; `filled`: rows that are older than the column have a value
--   parts           the table and its partitions, each with its file: a rewritten one has another
--   types           the labels of enums and the shapes of composites that its columns are made of
--   uses            the types that are not Postgres' own
--   triggers        those of the capture, each with the transaction that made it or set its state
CREATE OR REPLACE FUNCTION hub.structure(watched_id int, of_table regclass) RETURNS jsonb LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp SET quote_all_identifiers = off SET jit = off AS $$
  WITH RECURSIVE parts AS MATERIALIZED (SELECT p.part, c.relfilenode FROM hub.parts(of_table) p JOIN pg_class c ON c.oid = p.part),
    used(oid) AS (
      SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = of_table AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= 16384
    UNION
      SELECT x.oid FROM used u JOIN pg_type t ON t.oid = u.oid CROSS JOIN LATERAL (
        SELECT t.typbasetype UNION ALL SELECT t.typelem
        UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
        UNION ALL SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) x(oid)
      WHERE x.oid >= 16384)
  SELECT jsonb_build_object(
    'relation', c.oid::bigint,
    'name', format('%I.%I', n.nspname, c.relname),
    'key', (SELECT to_jsonb((i.indkey::int2[])[0:i.indnkeyatts - 1]) FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary),
    'columns', (SELECT coalesce(jsonb_object_agg(a.attnum, jsonb_build_object(
        'name', a.attname, 'type', a.atttypid::bigint, 'made', a.xmin::text,
        'filled', EXISTS (SELECT FROM parts p JOIN pg_attribute x ON x.attrelid = p.part AND x.attname = a.attname WHERE x.atthasmissing))), '{}')
      FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    'parts', (SELECT jsonb_object_agg(p.part::oid, p.relfilenode::bigint) FROM parts p),
    'types', (SELECT coalesce(jsonb_object_agg(made_of.name, made_of.shape), '{}') FROM (
        SELECT 'label ' || e.oid, e.enumlabel::text FROM used u JOIN pg_enum e ON e.enumtypid = u.oid
        UNION ALL
        SELECT 'fields ' || t.oid, string_agg(concat(quote_ident(a.attname), ' ', a.atttypid), ', ' ORDER BY a.attnum)
        FROM used u JOIN pg_type t ON t.oid = u.oid JOIN pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
        GROUP BY t.oid) made_of(name, shape)),
    'triggers', (SELECT coalesce(jsonb_object_agg(g.oid, g.xmin::text), '{}') FROM pg_trigger g JOIN parts p ON p.part = g.tgrelid
      WHERE g.tgfoid IN (SELECT to_regproc(hub.capture_function(watched_id, e.event))::oid FROM hub.capture_events() e(event))),
    'uses', (SELECT coalesce(jsonb_agg(u.oid::bigint ORDER BY u.oid), '[]') FROM used u))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = of_table
$$;
