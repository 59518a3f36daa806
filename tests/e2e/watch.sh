# shellcheck shell=bash
# shellcheck disable=SC2154 # ports, work and watch_pid are set in lib.sh
# Watches by grpcurl, and by the client that comes with the hub.

watch_every_writer() {
  local rex api truncated
  sql 'TRUNCATE dinosaurs'
  settle
  watch every '{}'
  rex=$(sql "INSERT INTO dinosaurs(species) VALUES ('rex') RETURNING id")
  sql "UPDATE dinosaurs SET species = 'rex 2' WHERE id = '$rex'"
  sql "DELETE FROM dinosaurs WHERE id = '$rex'"
  api=$(create 'by api')
  rpc "$SERVICE/UpdateDinosaur" "{\"id\":\"$api\",\"species\":\"by api 2\"}"
  rpc "$SERVICE/DeleteDinosaur" "{\"id\":\"$api\"}"
  rpc "$SERVICE/DeleteDinosaur" "{\"id\":\"$api\"}" # not there: no event
  sql "UPDATE dinosaurs SET species = 'no row'"     # nor here
  delivered 'watch: insert, update, delete, by psql and by the API, in order' every \
    "CREATED $rex ->rex
UPDATED $rex ->rex 2
DELETED $rex ->-
CREATED $api ->by api
UPDATED $api ->by api 2
DELETED $api ->-"

  sql "INSERT INTO dinosaurs(id, species) VALUES ('t1', 'a'), ('t2', 'b'), ('t3', 'c')" 'TRUNCATE dinosaurs' \
    "INSERT INTO dinosaurs(id, species) VALUES ('last', 'z')"
  wait_for 20 'the events of a TRUNCATE' seen every 13
  truncated=$(events every | tail -n 7)
  # The rows of one statement have no order among them.
  equal 'watch: TRUNCATE deletes every row' "$(printf 'DELETED t%d ->-\n' 1 2 3)" "$(sed -n 4,6p <<<"$truncated" | sort)"
  equal 'watch: what follows a TRUNCATE' 'CREATED last ->z' "$(sed -n 7p <<<"$truncated")"
  unwatch
}

watch_transactions() {
  watch bulk '{}'
  sql 'BEGIN' "INSERT INTO dinosaurs(id, species) VALUES ('rolled back', 'x')" 'ROLLBACK'
  sql 'BEGIN' "INSERT INTO dinosaurs(id, species) VALUES ('tx', 'one')" 'SAVEPOINT s' \
    "UPDATE dinosaurs SET species = 'undone' WHERE id = 'tx'" 'ROLLBACK TO s' \
    "UPDATE dinosaurs SET species = 'two' WHERE id = 'tx'" "UPDATE dinosaurs SET id = 'tx new' WHERE id = 'tx'" 'COMMIT'
  delivered 'watch: what a transaction committed, and only that; a changed key is a delete and a create' bulk \
    'CREATED tx ->one
UPDATED tx ->two
DELETED tx ->-
CREATED tx new ->two'
  sql "INSERT INTO dinosaurs(id, species) SELECT 'bulk ' || n, 'bulk' FROM generate_series(1, 5000) n"
  wait_for 60 'the events of 5,000 rows' seen bulk 5004
  events bulk >/dev/null
  equal 'watch: a statement over 5,000 rows, each once' \
    "$(sql "SELECT id FROM dinosaurs WHERE id LIKE 'bulk %'" | sort)" "$(helper ids "$work/bulk.watch" | grep '^bulk ' | sort)"
  unwatch
  sql "DELETE FROM dinosaurs"
}

watch_narrowed() {
  sql "INSERT INTO dinosaurs(id, species) VALUES ('a', 'before'), ('b', 'before')"
  settle
  watch types '{"types":["EVENT_TYPE_DELETED","EVENT_TYPE_UPDATED"]}'
  watch ids '{"resource_ids":["a","not there"]}'
  watch both '{"types":["EVENT_TYPE_DELETED"],"resource_ids":["b"]}'
  watch previous '{"include_previous":true,"buffer":100}'
  sql "UPDATE dinosaurs SET species = 'after' WHERE id = 'a'" "INSERT INTO dinosaurs(id, species) VALUES ('c', 'new')" \
    "DELETE FROM dinosaurs WHERE id = 'b'" "DELETE FROM dinosaurs WHERE id = 'a'"
  delivered 'watch: types' types 'UPDATED a ->after
DELETED b ->-
DELETED a ->-'
  delivered 'watch: resource_ids' ids 'UPDATED a ->after
DELETED a ->-'
  delivered 'watch: types and resource_ids' both 'DELETED b ->-'
  delivered 'watch: include_previous' previous 'UPDATED a before>after
CREATED c ->new
DELETED b before>-
DELETED a after>-'
}

watch_resumed() {
  local first epoch
  watch whole '{}'
  epoch=$(header whole hub-epoch)
  sql "INSERT INTO dinosaurs(id, species) VALUES ('r1', '1')" "INSERT INTO dinosaurs(id, species) VALUES ('r2', '2')" \
    "INSERT INTO dinosaurs(id, species) VALUES ('r3', '3')"
  wait_for 20 'three events' seen whole 3
  first=$(helper revision "$work/whole.watch" 0)
  unwatch
  sql "DELETE FROM dinosaurs WHERE id = 'r2'"
  watch rest "{\"after_revision\":$first,\"epoch\":\"$epoch\"}"
  equal 'resume: hub-revision is where it resumed' "$first" "$(header rest hub-revision)"
  equal 'resume: the same epoch' "$epoch" "$(header rest hub-epoch)"
  sql "DELETE FROM dinosaurs WHERE id = 'r3'"
  delivered 'resume: everything after the revision, then live, neither hole nor repeat' rest 'CREATED r2 ->2
CREATED r3 ->3
DELETED r2 ->-
DELETED r3 ->-'
  unwatch
}

watch_positions_refused() {
  local head
  watch head '{}'
  head=$(header head hub-revision)
  unwatch
  refused 'resume: ahead of the head' "$SERVICE/WatchDinosaurs" "{\"after_revision\":$((head + 1000000))}" \
    OutOfRange "info['reason'] == 'REVISION_UNKNOWN'"
  refused 'resume: another epoch' "$SERVICE/WatchDinosaurs" "{\"after_revision\":$head,\"epoch\":\"another\"}" \
    OutOfRange "info['reason'] == 'EPOCH_CHANGED'"
}

# As a load test does it: many connections, and reflection in the version that ghz speaks.
watch_load() {
  sql "DELETE FROM dinosaurs"
  watch load '{"types":["EVENT_TYPE_CREATED"]}'
  ghz --insecure --call "$SERVICE/CreateDinosaur" -d '{"species":"load {{.RequestNumber}}"}' \
    -n 500 -c 20 --connections 5 -O json "localhost:$grpc_port" >"$work/ghz" 2>&1 </dev/null ||
    fail "ghz" "a report" "$(tail -n 5 "$work/ghz")"
  equal 'ghz: 500 creates' "{'OK': 500}" "$(helper value "$work/ghz" 'r["statusCodeDistribution"]')"
  wait_for 30 'the events of ghz' seen load 500
  equal 'ghz: a watch saw each row once' "$(sql "SELECT id FROM dinosaurs" | sort)" "$(helper ids "$work/load.watch" | sort)"
  unwatch
}

watch_command() {
  local pid head
  watch start '{}'
  head=$(header start hub-revision)
  unwatch
  "$trex" watch --server "http://localhost:$grpc_port" --output json --after-revision "$head" \
    >"$work/command.out" 2>"$work/command.err" </dev/null &
  pid=$!
  sql "INSERT INTO dinosaurs(id, species) VALUES ('w1', 'seen by trex watch')" \
    "DELETE FROM dinosaurs WHERE id = 'w1'"
  wait_for 20 'two lines of trex watch' lines_at_least 2 "$work/command.out"
  equal 'trex watch: a JSON object a line, in order' 'CREATED w1 DELETED w1' "$(helper lines "$work/command.out")"
  kill "$pid"
  wait "$pid" || true
}

lines_at_least() { [[ $(wc -l <"$2") -ge $1 ]]; }

known_metrics=(
  grpc_requests_total:counter grpc_request_duration_seconds:histogram
  grpc_stream_subscribers_active:gauge grpc_stream_events_sent_total:counter
  grpc_stream_events_dropped_total:counter grpc_stream_duration_seconds:histogram
  hub_captured_to_sealed_seconds:histogram hub_sealed_to_sent_seconds:histogram
  hub_head_revision:gauge hub_compacted_revision:gauge hub_log_window_events:gauge
  hub_log_window_bytes:gauge hub_subscriber_lag_events:gauge hub_listener_connected:gauge
  hub_listener_reconnects_total:counter hub_doorbell_rings_total:counter
  hub_doorbell_skips_total:counter hub_seals_total:counter hub_sealed_events_total:counter
  hub_oldest_open_transaction_seconds:gauge hub_db_pool_connections:gauge
  hub_bulk_items_total:counter hub_bulk_batch_duration_seconds:histogram
  hub_bulk_batch_rows:histogram hub_bulk_streams_active:gauge hub_imports_resumed_total:counter
  hub_build_info:gauge
  hub_filter_evaluations_total:counter
  hub_stream_conflations_total:counter hub_stream_events_conflated_total:counter
)

metrics() {
  local name before
  unwatch_all
  wait_for 20 'the gauge of subscribers to be 0' metric_is 0 grpc_stream_subscribers_active
  ok 'metrics: no subscriber after the watches were killed'
  for name in "${known_metrics[@]}"; do
    grep -qx "# TYPE ${name%:*} ${name#*:}" "$work/metrics" || fail 'metrics: names' "$name" "$(grep '^# TYPE' "$work/metrics")"
  done
  ok 'metrics: every name, with its type'
  before=$(metric grpc_requests_total "method=/$SERVICE/CreateDinosaur" code=OK)
  create counted >/dev/null
  equal 'metrics: a create is counted' $((before + 1)) "$(metric grpc_requests_total "method=/$SERVICE/CreateDinosaur" code=OK)"
  metric_is 0 grpc_requests_total "method=/$SERVICE/GetDinosaur" code=NotFound &&
    fail 'metrics: an error is counted under its code' 'more than 0' 0
  ok 'metrics: an error is counted under its code'
  metric_is 0 grpc_stream_events_sent_total && fail 'metrics: events sent' 'more than 0' 0
  equal 'metrics: nothing was dropped' 0 "$(metric grpc_stream_events_dropped_total)"
  equal 'metrics: the listener is connected' 1 "$(metric hub_listener_connected)"
}
