-- The xids that finished between two snapshots, as ranges [lo, hi): those of a's xip, and [xmax(a), xmax(b)) minus b's xip.
CREATE OR REPLACE FUNCTION hub.finished_between(a pg_snapshot, b pg_snapshot) RETURNS TABLE (lo xid8, hi xid8) LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT x, ((x::text::bigint + 1)::text)::xid8 FROM pg_snapshot_xip(a) x WHERE pg_visible_in_snapshot(x, b)
  UNION ALL
  SELECT lo, hi FROM (
    SELECT after AS lo, lead(start) OVER (ORDER BY start) AS hi FROM (
      SELECT pg_snapshot_xmax(a) AS start, pg_snapshot_xmax(a) AS after
      UNION ALL SELECT x, ((x::text::bigint + 1)::text)::xid8 FROM pg_snapshot_xip(b) x WHERE x >= pg_snapshot_xmax(a)
      UNION ALL SELECT pg_snapshot_xmax(b), pg_snapshot_xmax(b)) bounds) ranges
  WHERE lo < hi
$$;
