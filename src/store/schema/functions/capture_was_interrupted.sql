-- May changes of a watched table have gone by uncaptured, in the parts that it had when it was last looked at?
CREATE OR REPLACE FUNCTION hub.capture_was_interrupted(watched_id int) RETURNS boolean LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp SET jit = off AS $$
  SELECT w.made IS DISTINCT FROM hub.capture_digest(w.id)
    -- As it was to be captured then: what has been added since may call for another mode, and until that is made this one captures.
    OR EXISTS (SELECT FROM hub.trigger_states(w.id, w.mode) t
               WHERE w.structure -> 'parts' ? t.relation::oid::text AND (t.present IS NULL OR t.is_altered OR t.state NOT IN (t.enabled, t.also)))
    -- Somebody may have disabled one and enabled it again.
    OR EXISTS (SELECT FROM jsonb_each_text(w.structure -> 'triggers') k JOIN pg_trigger g ON g.oid = k.key::oid AND g.xmin::text <> k.value)
  FROM hub.watched w WHERE w.id = watched_id AND w.structure -> 'relation' = to_jsonb(w.relation::oid::bigint)
$$;
