-- Seal: number what was committed since the last seal, without gaps, in an order that no later commit can upset.
-- The snapshot arithmetic is that of PgQ (Skype's queue for Postgres).

-- The xids that finished between two snapshots, as ranges [lo, hi): those of a's xip, and [xmax(a), xmax(b)) minus b's xip.
CREATE FUNCTION hub.finished_between(a pg_snapshot, b pg_snapshot) RETURNS TABLE (lo xid8, hi xid8) LANGUAGE sql STABLE AS $$
  SELECT x, ((x::text::bigint + 1)::text)::xid8 FROM pg_snapshot_xip(a) x WHERE pg_visible_in_snapshot(x, b)
  UNION ALL
  SELECT lo, hi FROM (
    SELECT after AS lo, lead(start) OVER (ORDER BY start) AS hi FROM (
      SELECT pg_snapshot_xmax(a) AS start, pg_snapshot_xmax(a) AS after
      UNION ALL SELECT x, ((x::text::bigint + 1)::text)::xid8 FROM pg_snapshot_xip(b) x WHERE x >= pg_snapshot_xmax(a)
      UNION ALL SELECT pg_snapshot_xmax(b), pg_snapshot_xmax(b)) bounds) ranges
  WHERE lo < hi
$$;

-- Why the numbers of this database may not mean what they meant; NULL: they do. SQLSTATE TX001 carries it to the hubs.
-- `thorough` also reads the control file, which is too slow for every seal.
CREATE FUNCTION hub.history_fault(thorough boolean) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT CASE
    WHEN i.epoch IS NULL OR h.revision IS NULL THEN 'the head or the incarnation is missing'
    WHEN i.xmin <> i.born::xid OR i.database <> d.oid THEN 'this is a copy of another database'
    WHEN pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax(h.snapshot) THEN 'transaction ids went backwards'
    WHEN i.timeline <> hub.timeline() THEN 'the server is on another timeline'
    WHEN thorough AND i.system_identifier <> (SELECT s.system_identifier FROM pg_control_system() s) THEN 'this is another server'
  END
  FROM pg_database d LEFT JOIN hub.incarnation i ON true LEFT JOIN hub.head h ON true
  WHERE d.datname = current_database()
$$;

-- Numbers everything that finished since the last seal. READ COMMITTED only: an older snapshot would number twice.
-- Nothing may be published before the commit of this transaction is acknowledged.
-- `upto`: the snapshot of another transaction, taken since this session holds the seal lock; what that one sees is then exactly the
-- state at the revision returned.
CREATE FUNCTION hub.seal(IN upto pg_snapshot, OUT revision bigint, OUT events bigint, OUT transactions bigint, OUT epoch text) LANGUAGE plpgsql
  SET enable_seqscan = off SET jit = off SET max_parallel_workers_per_gather = 0 SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  prev  hub.head;
  cur   pg_snapshot;
  fault text;
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'hub.seal() needs READ COMMITTED';
  END IF;
  PERFORM set_config('synchronous_commit', 'on', true);
  PERFORM pg_advisory_xact_lock(1953654136, 1);
  fault := hub.history_fault(false);
  IF fault IS NOT NULL THEN RAISE EXCEPTION USING ERRCODE = 'TX001', MESSAGE = fault; END IF;
  SELECT * INTO STRICT prev FROM hub.head;
  SELECT i.epoch INTO STRICT epoch FROM hub.incarnation i;
  cur := coalesce(upto, pg_current_snapshot());
  IF pg_snapshot_xmax(cur) < pg_snapshot_xmax(prev.snapshot) THEN RAISE EXCEPTION 'this snapshot is older than the last seal'; END IF;
  -- Transactions by their last change: whoever captured after another's commit comes after it.
  INSERT INTO hub.log (revision, xid, events)
    SELECT prev.revision + (sum(n) OVER (ORDER BY last_seq))::bigint, xid, n
    FROM (SELECT c.xid, count(*) AS n, max(c.seq) AS last_seq
          FROM hub.finished_between(prev.snapshot, cur) f
          -- Index ranges through LATERAL: as OR or ANY the plan became a scan of hub.change.
          CROSS JOIN LATERAL (SELECT xid, seq FROM hub.change WHERE xid >= f.lo AND xid < f.hi OFFSET 0) c
          GROUP BY c.xid) finished;
  GET DIAGNOSTICS transactions = ROW_COUNT;
  IF transactions = 0 THEN
    revision := prev.revision;
  ELSE
    SELECT max(l.revision) INTO revision FROM hub.log l;
    UPDATE hub.head h SET revision = seal.revision, snapshot = cur;
    PERFORM pg_notify('hub_sealed', revision::text);
  END IF;
  events := revision - prev.revision;
END $$;

CREATE FUNCTION hub.seal(OUT revision bigint, OUT events bigint, OUT transactions bigint, OUT epoch text) LANGUAGE sql AS $$
  SELECT * FROM hub.seal(NULL::pg_snapshot)
$$;
