# shellcheck shell=bash
# Filters and orders (docs/filters.md), and the policy LATEST.

filtered_watches() {
  local filter='species = \"T*\"' position
  sql 'DELETE FROM dinosaurs'
  settle
  watch entering "{\"filter\":\"$filter\"}"
  watch staying "{\"filter\":\"$filter AND type != DELETED\",\"include_previous\":true}"
  sql "INSERT INTO dinosaurs(id, species) VALUES ('a', 'Trex')" "INSERT INTO dinosaurs(id, species) VALUES ('b', 'Rex')" \
    "UPDATE dinosaurs SET species = 'Tyrex' WHERE id = 'a'" "UPDATE dinosaurs SET species = 'Torvo' WHERE id = 'b'" \
    "UPDATE dinosaurs SET species = 'Max' WHERE id = 'a'" "DELETE FROM dinosaurs WHERE id = 'a'" "DELETE FROM dinosaurs WHERE id = 'b'" \
    "INSERT INTO dinosaurs(id, species) VALUES ('c', 'The end')"
  delivered 'filter: rows enter, change, leave and go' entering 'CREATED a ->Trex
UPDATED a ->Tyrex
CREATED b ->Torvo
DELETED a Tyrex>-
DELETED b ->-
CREATED c ->The end'
  delivered 'filter: the type is the one that is seen' staying 'CREATED a ->Trex
UPDATED a Trex>Tyrex
CREATED b ->Torvo
CREATED c ->The end'
  metric_is 0 hub_filter_evaluations_total && fail 'filter: evaluations are counted' 'more than 0' 0
  ok 'filter: evaluations are counted'
  for position in 9:'species ~ x' 1:'size = 3' 24:'species = x AND type = GONE'; do
    refused "filter: what is wrong at character ${position%%:*}" "$SERVICE/WatchDinosaurs" "{\"filter\":\"${position#*:}\"}" InvalidArgument \
      "fields == ['filter'] and 'at character ${position%%:*}:' in r['message']"
  done
  unwatch
}

# A stream that keeps up gets every event, whatever it asks for when it does not.
latest_watch() {
  watch latest '{"backpressure":"BACKPRESSURE_POLICY_LATEST"}'
  sql "INSERT INTO dinosaurs(id, species) VALUES ('l', '1')" "UPDATE dinosaurs SET species = '2' WHERE id = 'l'" \
    "DELETE FROM dinosaurs WHERE id = 'l'"
  delivered 'watch: LATEST' latest 'CREATED l ->1
UPDATED l ->2
DELETED l ->-'
  unwatch
}

filtered_lists() {
  local species='[i["species"] for i in r["items"]]'
  sql 'DELETE FROM dinosaurs' "INSERT INTO dinosaurs(id, species) VALUES ('1', 'b'), ('2', 'a'), ('3', 'B'), ('4', 'a'), ('5', 'ab')"
  answers 'list: filter' "$SERVICE/ListDinosaurs" '{"filter":"species = \"a*\" OR id = 1"}' \
    "$species == ['b', 'a', 'a', 'ab'] and r['metadata']['total'] == 4"
  answers 'list: order_by' "$SERVICE/ListDinosaurs" '{"order_by":"species desc, id"}' \
    "[i['metadata']['id'] for i in r['items']] == ['1', '5', '2', '4', '3']"
  answers 'list: filter and order_by, a page' "$SERVICE/ListDinosaurs" '{"filter":"NOT species = B","order_by":"species","size":2,"page":2}' \
    "$species == ['ab', 'b'] and r['metadata']['total'] == 4"
  refused 'list: a bad order_by' "$SERVICE/ListDinosaurs" '{"order_by":"species up"}' InvalidArgument "fields == ['order_by']"
  refused 'list: a filter of events' "$SERVICE/ListDinosaurs" '{"filter":"type = CREATED"}' InvalidArgument "fields == ['filter']"
}
