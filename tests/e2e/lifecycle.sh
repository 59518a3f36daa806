# shellcheck shell=bash
# shellcheck disable=SC2154 # ports, work, data and the like are set in lib.sh and run
# shellcheck disable=SC2034 # run_as and the like are read in lib.sh
# The command line, starting, stopping, and what outlives what.

one_line() { # NAME MENTIONS : the last `attempt` failed, with one clear line
  [[ $rc -ne 0 ]] || fail "$1" 'a non-zero exit' 0
  [[ $rc -ne 124 ]] || fail "$1" 'an exit' 'none within 30 s'
  equal "$1: one line" 1 "$(grep -c . "$work/attempt")"
  grep -q -- "$2" "$work/attempt" || fail "$1" "a line that names $2" "$(<"$work/attempt")"
}

attempt() { # ARGUMENT... : sets rc; all output is in $work/attempt
  rc=0
  timeout 30 "$trex" "$@" >"$work/attempt" 2>&1 </dev/null || rc=$?
}

command_line() {
  local word
  attempt --version
  grep -Eqx 'trex [0-9]+\.[0-9]+\.[0-9]+.*' "$work/attempt" || fail '--version' 'trex x.y.z' "$(<"$work/attempt")"
  ok '--version'
  attempt --help
  for word in serve watch subscriptions status migrate completions man; do
    grep -qw "$word" "$work/attempt" || fail '--help' "$word" "$(<"$work/attempt")"
  done
  ok '--help'
  attempt serve --help
  for word in --database-url DATABASE_URL --data-dir --grpc-server-bindaddress TREX_GRPC_SERVER_BINDADDRESS \
    --admin-server-bindaddress --api-server-bindaddress --metrics-server-bindaddress --health-check-server-bindaddress; do
    grep -q -- "$word" "$work/attempt" || fail 'serve --help' "$word" "$(<"$work/attempt")"
  done
  ok 'serve --help'
}

refused_starts() {
  local taken
  attempt serve --data-dir "$work/refused" --grpc-server-bindaddress nonsense
  one_line 'start with a bad value' nonsense
  # Held by a listener that stays until its stdin closes.
  coproc holder { python3 -I -c 'import socket, sys
listener = socket.create_server(("127.0.0.1", 0)); print(listener.getsockname()[1], flush=True); sys.stdin.read()'; }
  read -r taken <&"${holder[0]}"
  attempt serve --data-dir "$work/refused" --grpc-server-bindaddress "localhost:$taken" \
    --admin-server-bindaddress localhost:0 --api-server-bindaddress localhost:0 --metrics-server-bindaddress localhost:0 --health-check-server-bindaddress localhost:0
  eval "exec ${holder[1]}>&-"
  one_line 'start with a taken port' "$taken"
  no_postgres "$work/refused" || fail 'start with a taken port' 'no Postgres left' 'one runs'
  ok 'start with a taken port: leaves no Postgres'
}

data_survives_restart() {
  local id epoch
  id=$(create 'survives')
  watch life '{}'
  epoch=$(header life hub-epoch)
  unwatch
  stop_hub
  equal 'stop: exit code' 0 "$ended"
  no_postgres "$data" || fail 'stop' 'no Postgres left' "$(helper inside "$data")"
  ok 'stop: Postgres is stopped, too'
  start_hub "$data"
  answers 'second start: keeps the data' "$SERVICE/GetDinosaur" "{\"id\":\"$id\"}" "r['species'] == 'survives'"
  watch life '{}'
  equal 'second start: the same epoch' "$epoch" "$(header life hub-epoch)"
  sql "DELETE FROM dinosaurs WHERE id = '$id'"
  delivered 'second start: watches' life "DELETED $id ->-"
  unwatch
}

killed_hub_leaves_postgres() {
  local postmaster
  postmaster=$(postmaster_pid "$data")
  disown "$hub" # or the shell announces its end
  kill -KILL "$hub"
  hub_ends 10
  alive "$postmaster" || fail 'kill -9' 'Postgres goes on' 'it is gone'
  ok 'kill -9: Postgres goes on'
  sql "INSERT INTO dinosaurs(id, species) VALUES ('while away', 'x')"
  start_hub "$data"
  equal 'kill -9: the next start adopts it' "$postmaster" "$(postmaster_pid "$data")"
  answers 'kill -9: what was written meanwhile' "$SERVICE/GetDinosaur" '{"id":"while away"}' "r['species'] == 'x'"
  settle
  watch adopted '{}'
  sql "DELETE FROM dinosaurs WHERE id = 'while away'"
  delivered 'kill -9: the next hub watches' adopted 'DELETED while away ->-'
  unwatch
}

stop_ends_watches() {
  local verdict ended_with=0
  watch open '{}'
  stop_hub
  equal 'SIGTERM with an open watch: exit code' 0 "$ended"
  wait "$watch_pid" || ended_with=$?
  equal 'SIGTERM with an open watch: Unavailable' $((64 + CODES[Unavailable])) "$ended_with"
  verdict=$(helper check "$work/open.watch.err" "retry is not None and info['domain'] == 'trex.hub'") ||
    fail 'SIGTERM with an open watch: details' 'RetryInfo and ErrorInfo' "$verdict"
  ok 'SIGTERM with an open watch: RetryInfo and ErrorInfo'
  no_postgres "$data" || fail 'SIGTERM' 'no Postgres left' "$(helper inside "$data")"
  ok 'SIGTERM: an adopted Postgres is stopped, too'
}

# Ctrl-C reaches every process of the terminal's group; Postgres must not be
# among them, or it would go before the hub has drained.
interrupt_stops_all() {
  start_hub "$data"
  kill -INT -- "-$hub"
  hub_ends 30
  equal 'Ctrl-C: exit code' 0 "$ended"
  no_postgres "$data" || fail 'Ctrl-C' 'no Postgres left' "$(helper inside "$data")"
  ok 'Ctrl-C: the hub drains, then stops Postgres'
}

# The hub's Postgres, given to a second hub, which must leave it running.
given_server() {
  local first_hub first_health first_log url id
  start_hub "$data"
  first_hub=$hub first_health=$health_port first_log=$log
  url="postgresql:///$(sql '\echo :DBNAME')?user=$(sql '\echo :USER')&host=$(sql '\echo :HOST')&port=$(sql '\echo :PORT')"
  DATABASE_URL=$url TREX_DINOSAURS=true spawn_hub --data-dir "$work/unused"
  wait_ready
  watch second '{}'
  id=$(sql "INSERT INTO dinosaurs(species) VALUES ('two hubs') RETURNING id")
  delivered 'DATABASE_URL: a second hub on a given server' second "CREATED $id ->two hubs"
  unwatch
  [[ ! -e $work/unused ]] || fail 'DATABASE_URL' 'no cluster of its own' "$(ls "$work/unused")"
  stop_hub
  equal 'DATABASE_URL: exit code' 0 "$ended"
  hub=$first_hub health_port=$first_health log=$first_log
  equal 'DATABASE_URL: the given server goes on' 1 "$(sql 'SELECT 1')"
  ready >/dev/null || fail 'DATABASE_URL' 'the first hub is ready' 'it is not'
  ok 'DATABASE_URL: so does its hub'
  stop_hub
}

ordinary_user() {
  local id home=$work/ordinary
  mkdir "$home"
  if [[ $EUID -eq 0 ]]; then
    chown nobody "$home"
    run_as=(setpriv --reuid=nobody --regid=nogroup --clear-groups env "HOME=$home")
  fi
  start_hub "$home/data"
  equal 'ordinary user: Postgres is theirs' "$(stat -c %U "$home")" "$(stat -c %U "$(find "$home" -name postmaster.pid)")"
  watch ordinary '{}'
  id=$(sql "INSERT INTO dinosaurs(species) VALUES ('ordinary') RETURNING id")
  delivered 'ordinary user: a watch sees what psql writes' ordinary "CREATED $id ->ordinary"
  unwatch
  stop_hub
  equal 'ordinary user: exit code' 0 "$ended"
  no_postgres "$home" || fail 'ordinary user' 'no Postgres left' "$(helper inside "$home")"
  ok 'ordinary user: Postgres is stopped, too'
}
