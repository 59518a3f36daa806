# shellcheck shell=bash
# shellcheck disable=SC2154 # ports, work, data and the like are set in lib.sh and run
# What outlives the memory of a hub: the retained history, and the state of the table.

types() { # WATCH : the types of its messages, in order, runs folded
  sed -n 's/^  "type": "EVENT_TYPE_\(.*\)".*/\1/p' "$work/$1.watch" | uniq -c | awk '{print $1, $2}'
}

last_revision() { sed -n 's/^  "revision": "\(.*\)".*/\1/p' "$work/$1.watch" | tail -n 1; } # WATCH

resume_from_history() {
  local from
  sql "DELETE FROM dinosaurs"
  settle
  watch before '{}'
  from=$(header before hub-revision)
  unwatch
  sql "INSERT INTO dinosaurs(id, species) SELECT 'h' || n, 'history' FROM generate_series(1, 1200) n" \
    "INSERT INTO dinosaurs(id, species) VALUES ('last', 'history')"
  stop_hub
  start_hub "$data"
  watch again "{\"after_revision\":$from,\"backpressure\":\"BACKPRESSURE_POLICY_CATCH_UP\"}"
  sql "INSERT INTO dinosaurs(id, species) VALUES ('live', 'live')"
  wait_for 20 '1,202 events' seen again 1202
  events again >/dev/null
  equal 'history: a new hub serves what an old one sealed, then goes live' \
    "$(sql 'SELECT id FROM dinosaurs' | sort)" "$(helper ids "$work/again.watch" | sort)"
  unwatch
}

state_then_events() {
  watch state '{"send_initial_state":true}'
  wait_for 20 'the state and its bookmark' seen state 1203
  sql "DELETE FROM dinosaurs WHERE id = 'live'"
  wait_for 20 'the event after the state' seen state 1204
  equal 'initial state: the rows, a bookmark, then events' '1202 SNAPSHOT
1 BOOKMARK
1 DELETED' "$(types state)"
  unwatch
  refused 'initial state: not with after_revision' "$SERVICE/WatchDinosaurs" \
    '{"send_initial_state":true,"after_revision":1}' InvalidArgument "fields == ['send_initial_state']"
}

bookmarks_move_on() {
  local head
  watch marks '{"bookmark_interval":"0.2s","types":["EVENT_TYPE_CREATED"]}'
  sql "DELETE FROM dinosaurs WHERE id = 'last'"
  settle
  watch head '{}'
  head=$(header head hub-revision)
  unwatch
  wait_for 20 'a bookmark at the head' marked_at marks "$head"
  equal 'bookmarks: only they came, for nothing matched' BOOKMARK "$(types marks | awk '{print $2}' | sort -u)"
  unwatch
  refused 'bookmarks: too often' "$SERVICE/WatchDinosaurs" '{"bookmark_interval":"0.001s"}' \
    InvalidArgument "fields == ['bookmark_interval']"
}

marked_at() { [[ $(last_revision "$1") -ge $2 ]]; } # WATCH REVISION

compacted_history() {
  stop_hub
  start_hub "$data" --retention-events 1 --compaction-interval 200ms
  wait_for 20 'the floor to rise' raised
  refused 'compaction: too old, and the oldest that can be had' "$SERVICE/WatchDinosaurs" '{"after_revision":1}' \
    OutOfRange "info['reason'] == 'REVISION_COMPACTED' and int(info['metadata']['oldestRevision']) > 1"
}

raised() { (($(curl -sf "localhost:$metrics_port/metrics" | sed -n 's/^hub_compacted_revision //p') > 1)); }

new_epoch() {
  watch old '{}'
  attempt new-epoch --database-url "${psql_words[1]}"
  equal 'new epoch: exit code' 0 "$rc"
  wait "$watch_pid" || true
  grep -q EPOCH_CHANGED "$work/old.watch.err" "$work/old.watch" || fail 'new epoch: streams are told' EPOCH_CHANGED "$(<"$work/old.watch.err")"
  ok 'new epoch: streams are told'
}
