# shellcheck shell=bash
# shellcheck disable=SC2154 # ports, work, here and the like are set in lib.sh and run
# examples/go: a client whose stubs Go's tools generate from the protos.

go_client() { # : sets go_pid; adds to what it said before
  "$work/go-watch" "localhost:$grpc_port" "$work/go.position" >>"$work/go.out" 2>>"$work/go.err" </dev/null &
  go_pid=$!
}

kill_go_client() {
  kill -KILL "$go_pid"
  wait "$go_pid" 2>/dev/null || true
}

go_said() { cut -d ' ' -f 2- "$work/go.out" | sed 's/^EVENT_TYPE_//' | tail -n "+$1"; } # FROM-LINE

watch_by_go() {
  # A copy: what is generated must not be in the clone.
  cp -R "$here/../../examples/go" "$work/go"
  if ! (cd "$work/go" && rm -rf gen && buf generate "$here/../../proto" && go vet . && go build -o "$work/go-watch" .) >"$work/go.log" 2>&1; then
    fail 'go: generates and builds' 'a program' "$(tail -n 5 "$work/go.log")"
  fi
  clear_table
  sql "INSERT INTO dinosaurs(id, species) VALUES ('g1', 'there'), ('g2', 'there')"
  settle
  go_client
  wait_for 20 'the state' lines_at_least 2 "$work/go.out"
  equal 'go: begins with what is there' $'SNAPSHOT g1 there\nSNAPSHOT g2 there' "$(go_said 1 | sort)"
  sql "INSERT INTO dinosaurs(id, species) VALUES ('g3', 'live')" "UPDATE dinosaurs SET species = 'new' WHERE id = 'g1'"
  wait_for 20 'two events' lines_at_least 4 "$work/go.out"
  equal 'go: then what happens' $'CREATED g3 live\nUPDATED g1 new' "$(go_said 3)"
  # It may have been killed between an event and its note: then that comes again.
  wait_for 20 'the position' grep -q " $(sql 'SELECT revision FROM hub.head')$" "$work/go.position"
  kill_go_client
  sql "DELETE FROM dinosaurs WHERE id = 'g2'"
  go_client
  wait_for 20 'what it missed' lines_at_least 5 "$work/go.out"
  sql "INSERT INTO dinosaurs(id, species) VALUES ('g4', 'live')"
  wait_for 20 'what is new' lines_at_least 6 "$work/go.out"
  equal 'go: resumes where it was killed' $'DELETED g2 \nCREATED g4 live' "$(go_said 5)"
  kill_go_client
  printf 'another 1\n' >"$work/go.position"
  go_client
  wait_for 20 'the state again' lines_at_least 9 "$work/go.out"
  equal 'go: a position of another history is void' $'SNAPSHOT g1 new\nSNAPSHOT g3 live\nSNAPSHOT g4 live' "$(go_said 7 | sort)"
  kill_go_client
  clear_table
}
