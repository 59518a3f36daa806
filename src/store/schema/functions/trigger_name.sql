-- What a trigger of a watched table's capture is called. It begins with '!' to sort, and so fire, before any other. That of an attached
-- table carries its id: a watched table may become a partition of another one, whose row trigger comes with that.
CREATE OR REPLACE FUNCTION hub.trigger_name(watched_id int, event text) RETURNS text LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT concat('!trex_', event, CASE WHEN left(w.kind, 1) = '#' THEN '_' || w.id END) FROM hub.watched w WHERE w.id = watched_id
$$;
