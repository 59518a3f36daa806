-- As store/read.sql, for controllers: with who did it, and without the rows of kinds other than `wanted`, unless that is NULL. The n-th row
-- has revision `start` + n. In one snapshot with the floor, which is raised before anything is deleted.
CREATE OR REPLACE FUNCTION hub.changes_after(start bigint, start_seq bigint, most bigint, wanted text)
  RETURNS TABLE (base bigint, revision bigint, compacted bigint, seq bigint, kind text, resource_id text, type smallint,
    after text, before text, captured_at timestamptz, actor text, origin text, trace text)
  LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp SET enable_seqscan = off SET jit = off SET max_parallel_workers_per_gather = 0 SET plan_cache_mode = force_generic_plan
  SET enable_nestloop = on SET enable_indexscan = on SET enable_indexonlyscan = on AS $$
  SELECT l.revision - l.events, l.revision, (SELECT r.compacted FROM hub.retention r), c.seq, c.kind, c.resource_id, c.type,
    CASE WHEN wanted IS NULL OR c.kind = wanted THEN c.after::text END, CASE WHEN wanted IS NULL OR c.kind = wanted THEN c.before::text END,
    c.captured_at, c.actor, c.origin, c.trace
  FROM (SELECT * FROM hub.log g WHERE g.revision > start ORDER BY g.revision LIMIT most) l
  CROSS JOIN LATERAL (
    SELECT * FROM hub.change h
    WHERE h.xid = l.xid AND h.seq > CASE WHEN start <= l.revision - l.events THEN 0
      ELSE coalesce(start_seq, (SELECT s.seq FROM hub.change s WHERE s.xid = l.xid ORDER BY s.seq OFFSET start - (l.revision - l.events) - 1 LIMIT 1)) END
    ORDER BY h.seq LIMIT most OFFSET 0) c
  ORDER BY l.revision, c.seq
  LIMIT most
$$;
