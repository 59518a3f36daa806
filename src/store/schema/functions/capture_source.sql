-- The body of a watched table's trigger function for an event: static SQL, so that each session plans it once, and for the time
-- between a renamed column and the mended function a statement that is made anew each time.
CREATE OR REPLACE FUNCTION hub.capture_source(watched_id int, event text, wanted_mode text) RETURNS text LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT hub.fill(hub.capture_template('function'), jsonb_build_object(
    'id', w.id,
    'kind', quote_literal(w.kind),
    'event', s.event_expression,
    'bell', hub.bell_expression(),
    'is_nested', hub.fill(hub.capture_template('is_nested'), jsonb_build_object('id', w.id)),
    'capture', hub.fill(hub.capture_template(CASE WHEN s.is_quick THEN 'capture_quickly' ELSE 'capture' END), c.places || jsonb_build_object(
      'is_utc', CASE WHEN s.needs_utc THEN hub.capture_template('is_utc') ELSE '' END,
      'otherwise', CASE WHEN s.needs_utc THEN hub.fill(hub.capture_template('in_utc'), c.places) ELSE c.places ->> 'dynamic' END))))
  FROM hub.watched w
  CROSS JOIN LATERAL (SELECT
    wanted_mode = 'statement' AND event IN ('insert', 'update', 'delete') AS is_quick,
    hub.writes_instants(w.relation) AND hub.capture_settings(w.relation, w.key_names, event, wanted_mode) IS NULL AS needs_utc,
    -- COLLATE, for a Turkish i is another one.
    CASE event WHEN 'row' THEN '''row_'' OPERATOR(pg_catalog.||) pg_catalog.lower(TG_OP COLLATE pg_catalog."C")' ELSE quote_literal(event) END AS event_expression) s
  CROSS JOIN LATERAL (SELECT jsonb_build_object(
    'sessions', CASE WHEN event = 'truncate' THEN hub.fill(hub.capture_template('truncate_isolation'), jsonb_build_object('kind', quote_literal(w.kind)))
                     WHEN event <> 'row' THEN hub.capture_template('not_applied')
                     WHEN wanted_mode <> 'row' THEN hub.capture_template('only_applied')
                     ELSE '' END,
    -- TRUNCATE is captured with the name that the table has then.
    'names_hold', CASE WHEN event = 'truncate' THEN 'false' ELSE hub.names_hold(w.id) END,
    'static', CASE event WHEN 'truncate' THEN ''
           WHEN 'row' THEN hub.fill(hub.capture_template('static_rows'), jsonb_build_object(
             'row_insert', hub.capture_statement(w.id, 'row_insert', false, NULL),
             'row_delete', hub.capture_statement(w.id, 'row_delete', false, NULL),
             'row_update', hub.capture_statement(w.id, 'row_update', false, NULL)))
           ELSE hub.fill(hub.capture_template('static'),
                  jsonb_build_object('statement', hub.capture_statement(w.id, event, false, NULL))) END,
    'dynamic', hub.fill(hub.capture_template('dynamic'), jsonb_build_object('id', w.id, 'event', s.event_expression))) AS places) c
  WHERE w.id = watched_id
$$;
