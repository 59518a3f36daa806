-- An expression: is the row called `a` of a table the one that is called `b`? With the operators of the index that makes the key
-- unique, so that it serves. NULL: there is no such index.
CREATE OR REPLACE FUNCTION hub.equal_key(key_index oid, a text, b text) RETURNS text LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT string_agg(format('%1$s.%2$I OPERATOR(%3$I.%4$s) %5$s.%2$I', a, c.attname, n.nspname, o.oprname, b), ' AND ')
  FROM pg_index i
  CROSS JOIN unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY AS k(attnum, class, position)
  JOIN pg_attribute c ON c.attrelid = i.indrelid AND c.attnum = k.attnum
  JOIN pg_opclass p ON p.oid = k.class
  JOIN pg_amop s ON s.amopfamily = p.opcfamily AND s.amoplefttype = p.opcintype AND s.amoprighttype = p.opcintype
    AND s.amopstrategy = 3
  JOIN pg_operator o ON o.oid = s.amopopr
  JOIN pg_namespace n ON n.oid = o.oprnamespace
  WHERE i.indexrelid = key_index AND k.position <= i.indnkeyatts
$$;
