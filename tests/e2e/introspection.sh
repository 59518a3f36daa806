# shellcheck shell=bash
# shellcheck disable=SC2154 # ports, work and here are set in lib.sh and run
# What the operator and those who poll are offered: hub.v1, and the commands.

# Events in the log that a Python client copies while it is killed at random.
readonly READ_EVENTS=${READ_EVENTS_TOTAL:-20000}

admin_rpc() { grpc_port=$admin_port rpc "$@"; }
admin_answers() { grpc_port=$admin_port answers "$@"; }
admin_refused() { grpc_port=$admin_port refused "$@"; }

introspection_discovery() {
  grpcurl -plaintext "localhost:$grpc_port" list >"$work/list"
  listed hub.v1.EventService
  ! grep -q AdminService "$work/list" || fail 'list' 'no AdminService on the API listener' "$(<"$work/list")"
  ok 'reflection: the API listener lists what it serves'
  grpcurl -plaintext "localhost:$admin_port" list >"$work/list"
  listed hub.v1.AdminService
  listed grpc.health.v1.Health
  ! grep -q DinosaurService "$work/list" || fail 'list' 'no DinosaurService on the admin listener' "$(<"$work/list")"
  ok 'reflection: the admin listener lists what it serves'
  grpcurl -plaintext "localhost:$grpc_port" describe hub.v1.EventService >"$work/list"
  grep -q 'rpc ReadEvents .* returns ( stream .hub.v1.ReadEventsResponse )' "$work/list" ||
    fail 'describe' 'ReadEvents' "$(<"$work/list")"
  grpcurl -plaintext "localhost:$admin_port" describe hub.v1.AdminService >"$work/list"
  grep -q 'rpc ListSubscriptions ' "$work/list" || fail 'describe' 'ListSubscriptions' "$(<"$work/list")"
  ok 'reflection: describe the services of hub.v1'
  rpc hub.v1.AdminService/GetStatus '{}'
  equal 'admin: not on the API listener' $((64 + CODES[Unimplemented])) "$rc"
}

introspection() {
  local id
  watch looked_at '{"types":["EVENT_TYPE_DELETED"],"resource_ids":["a","b"],"buffer":77}'
  id=$(header looked_at x-operation-id)
  admin_answers 'subscriptions: the watch, as it was asked for' hub.v1.AdminService/ListSubscriptions '{}' \
    "[s['id'] for s in r['subscriptions']] == ['$id'] and r['totalSize'] == '1' and all(s['kind'] == '$KIND' and s['types'] == ['EVENT_TYPE_DELETED'] and s['resourceIds'] == 2 and s['buffer'] == '77' and s['state'] == 'SUBSCRIPTION_STATE_LIVE' and s['peer'] for s in r['subscriptions'])"
  admin_refused 'subscriptions: an unknown kind' hub.v1.AdminService/ListSubscriptions '{"kind":"Unicorn"}' \
    InvalidArgument "fields == ['kind']"
  admin_answers 'status: ready, one hub' hub.v1.AdminService/GetStatus '{}' \
    "r['ready'] and r['epoch'] and r['database']['listeningHubs'] == 1 and r['database']['sealedRevision'] == r['headRevision']"

  "$trex" subscriptions --server "localhost:$admin_port" >"$work/out"
  equal 'trex subscriptions: a heading, and a line for each watch' 2 "$(grep -c . "$work/out")"
  grep -q "$id" "$work/out" || fail 'trex subscriptions' "$id" "$(<"$work/out")"
  "$trex" subscriptions --server "localhost:$admin_port" --output json >"$work/out"
  equal 'trex subscriptions --output json' "$id" "$(helper value "$work/out" 'r["subscriptions"][0]["id"]')"
  "$trex" status --server "localhost:$admin_port" >"$work/out"
  grep -q ', ready$' "$work/out" || fail 'trex status' 'ready' "$(<"$work/out")"
  "$trex" status --server "localhost:$admin_port" --output json >"$work/out"
  equal 'trex status --output json' True "$(helper value "$work/out" 'r["ready"]')"
  attempt status --server "localhost:$grpc_port"
  one_line 'trex status: the wrong listener' 'not the admin listener'
  unwatch
}

generated_pages() {
  attempt completions bash
  bash -n "$work/attempt" || fail 'trex completions bash' 'a script' "$(head -n 3 "$work/attempt")"
  equal 'trex completions bash: completes trex' 1 "$(bash -c "source '$work/attempt' && complete -p trex" | grep -c -- '-F _trex')"
  attempt man
  grep -q '^\.TH trex 1' "$work/attempt" || fail 'trex man' 'a page' "$(head -n 3 "$work/attempt")"
  if command -v groff >/dev/null; then
    equal 'trex man: groff has nothing to say against it' '' "$(groff -man -Tutf8 -ww "$work/attempt" 2>&1 >/dev/null)"
  else
    ok 'trex man (groff is not installed: it was not rendered)'
  fi
}

events_refused() {
  local head
  head=$(sql 'SELECT revision FROM hub.head')
  refused 'read: ahead of the head' hub.v1.EventService/ReadEvents "{\"after_revision\":$((head + 1000000))}" \
    OutOfRange "info['reason'] == 'REVISION_UNKNOWN'"
  refused 'read: another epoch' hub.v1.EventService/ReadEvents '{"epoch":"another"}' \
    OutOfRange "info['reason'] == 'EPOCH_CHANGED'"
  refused 'read: an unknown kind' hub.v1.EventService/ReadEvents '{"kinds":["Unicorn"]}' InvalidArgument "fields == ['kinds']"
}

# On a data directory of its own: it reads from the first event to the last.
events_copied() {
  local left=$READ_EVENTS step verdict
  start_hub "$work/copied"
  while ((left > 0)); do
    step=$((left < 50000 ? left : 50000))
    sql "INSERT INTO dinosaurs(species) SELECT 'copied ' || n FROM generate_series(1, $step) n"
    left=$((left - step))
  done
  wait_for 120 'all to be sealed' metric_is "$READ_EVENTS" hub_head_revision
  verdict=$(python3 -I "$here/restart.py" "$here/../../examples/read_events.py" "localhost:$grpc_port" "$work/copy.sqlite" "$READ_EVENTS") ||
    fail 'read: a client that is killed at random' "$READ_EVENTS events, each once" "$verdict"
  ok "read: a client that is killed at random: $verdict"
  stop_hub
}
