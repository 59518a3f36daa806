# shellcheck shell=bash
# shellcheck disable=SC2154 # here and binary are set in run
# shellcheck disable=SC2034 # constants and results are for the checks, in other files
# What the checks are made of: the tally, waiting, the hub, calls and watches.

readonly SERVICE=rh_trex.v1.DinosaurService
readonly KIND=Dinosaur
# grpcurl exits with 64 + the status code.
declare -rA CODES=([InvalidArgument]=3 [NotFound]=5 [ResourceExhausted]=8
  [OutOfRange]=11 [Unimplemented]=12 [Unavailable]=14)

passed=0
hub='' # pid and process group of the hub, empty when none runs
log='' # its stdout; stderr is at $log.err
run_as=() # how to become another user, for the ordinary-user part

ok() {
  passed=$((passed + 1))
  printf 'ok  %s\n' "$1"
}

# Writes past any redirection, for it may be called in `$(...)`.
exec 3>&1
fail() { # NAME EXPECTED GOT
  {
    printf 'FAILED  %s\n  expected: %s\n  got:      %s\n' "$1" "$2" "$3"
    if [[ -n $log ]]; then
      printf -- '--- the end of the log of the hub\n'
      tail -n 15 "$log" || true
      tail -n 25 "$log.err" || true
    fi
    printf '%d passed, 1 failed\n' "$passed"
  } >&3
  exit 1
}

equal() { # NAME EXPECTED GOT
  [[ $2 == "$3" ]] || fail "$1" "$2" "$3"
  ok "$1"
}

need() { # TOOL...
  local tool
  for tool; do
    command -v "$tool" >/dev/null || fail "tool $tool" 'on PATH' 'missing'
  done
}

helper() { python3 -I "$here/helper.py" "$@"; }

# Polls; a condition that has not come true in time is a failure with its name.
wait_for() { # SECONDS WHAT COMMAND...
  local until=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < until)) || fail "wait for $what" 'true in time' "still false: $*"
    sleep 0.05
  done
}

alive() { kill -0 "$1" 2>/dev/null; }
gone() { ! alive "$1"; }

# ---- the places and their cleaning -------------------------------------------

workspace() {
  # Short, because the socket of Postgres lives below and its path is bounded;
  # open, because Postgres and the ordinary user come in as someone else.
  work=$(mktemp -d "${TMPDIR:-/tmp}/trex-e2e.XXXXXX")
  chmod 755 "$work"
  # A copy: another user may not reach the clone, and a rebuild must not
  # change the program in the middle of a run.
  install -m 755 "$binary" "$work/trex"
  trex=$work/trex
}

clean_up() {
  local status=$? pid
  trap - EXIT
  set +e
  for pid in $(jobs -pr); do
    # Not awaited any more, so the shell need not announce its end.
    disown "$pid"
    kill -KILL "$pid" 2>/dev/null
  done
  # Whatever still works inside our directory is a Postgres of ours.
  for pid in $(helper inside "$work"); do kill -QUIT "$pid" 2>/dev/null; done
  for _ in {1..100}; do
    [[ -z $(helper inside "$work") ]] && break
    sleep 0.05
  done
  for pid in $(helper inside "$work"); do kill -KILL "$pid" 2>/dev/null; done
  rm -rf "$work"
  exit "$status"
}

# ---- the hub -----------------------------------------------------------------

spawn_hub() { # FLAG... : starts it on free ports, does not wait
  read -r grpc_port admin_port api_port metrics_port health_port < <(helper ports 5)
  log=$work/hub-$grpc_port
  # A session of its own, so that an interrupt can go to the whole group, as
  # Ctrl-C at a terminal does, without reaching this script.
  # In a directory that any user may be in.
  (cd / && exec setsid "${run_as[@]}" "$trex" serve "$@" \
    --grpc-server-bindaddress "localhost:$grpc_port" \
    --admin-server-bindaddress "localhost:$admin_port" \
    --api-server-bindaddress "localhost:$api_port" \
    --metrics-server-bindaddress "localhost:$metrics_port" \
    --health-check-server-bindaddress "localhost:$health_port" \
    >"$log" 2>"$log.err" </dev/null) &
  hub=$!
}

ready() { curl -fsS -m 2 "http://localhost:$health_port/readyz"; }
ready_or_gone() { gone "$hub" || ready; }

wait_ready() {
  wait_for 60 'the hub to be ready' ready_or_gone
  alive "$hub" || fail 'start' 'a hub that stays' 'it exited'
}

start_hub() { # DATA-DIR FLAG... : until it is ready; then psql works, too
  spawn_hub --data-dir "$@"
  wait_ready
  read_psql_line
}

# Connects as the line says that the hub printed for people; what the line
# suggests to run (-c) is left out.
read_psql_line() {
  local line words=()
  line=$(sed -nE 's/^[[:space:]]*(psql .*)$/\1/p' "$log" "$log.err" | head -n 1)
  [[ -n $line ]] || fail 'psql line' 'a line that begins with psql' 'none'
  eval "words=($line)"
  psql_words=()
  set -- "${words[@]}"
  while (($#)); do
    case $1 in
    -c) shift ;;
    *) psql_words+=("$1") ;;
    esac
    shift
  done
}

sql() { # SQL... : each a statement of its own; prints bare rows
  local statement arguments=()
  for statement; do arguments+=(-c "$statement"); done
  (cd / && "${run_as[@]}" "${psql_words[@]}" -X -A -t -q -v ON_ERROR_STOP=1 "${arguments[@]}" </dev/null)
}

# Sets `ended` to the hub's exit status.
hub_ends() { # SECONDS
  wait_for "$1" 'the hub to exit' gone "$hub"
  ended=0
  wait "$hub" || ended=$?
  hub=''
}

stop_hub() {
  kill -TERM "$hub"
  hub_ends 30
}

no_postgres() { [[ -z $(helper inside "$1") ]]; }
postmaster_pid() { find "$1" -name postmaster.pid -exec head -qn 1 {} +; }

# ---- unary calls -------------------------------------------------------------

rpc() { # METHOD BODY : sets rc; the reply is in $work/reply, the error in $work/error
  rc=0
  grpcurl -plaintext -max-time 20 -emit-defaults -format-error -d @ \
    "localhost:$grpc_port" "$1" <<<"$2" >"$work/reply" 2>"$work/error" || rc=$?
}

# The expression is Python; `r` is the reply.
answers() { # NAME METHOD BODY EXPRESSION
  local verdict
  rpc "$2" "$3"
  [[ $rc -eq 0 ]] || fail "$1" 'OK' "$(<"$work/error")"
  verdict=$(helper check "$work/reply" "$4") || fail "$1" "$4" "$verdict"
  ok "$1"
}

# The expression is Python; `r` is the status, `info` its ErrorInfo, `fields`
# the names in its BadRequest. Every error of the hub must carry an ErrorInfo.
refused() { # NAME METHOD BODY CODE EXPRESSION
  local verdict
  rpc "$2" "$3"
  [[ $rc -eq $((64 + CODES[$4])) ]] || fail "$1" "$4" "exit $rc: $(<"$work/error") $(head -c 300 "$work/reply")"
  verdict=$(helper check "$work/error" "info['domain'] == 'trex.hub' and info['reason'] and ($5)") ||
    fail "$1" "domain trex.hub, a reason, and $5" "$verdict"
  ok "$1"
}

reply() { helper value "$work/reply" "$1"; } # EXPRESSION : a part of the last reply

create() { # SPECIES : prints the id
  grpcurl -plaintext -max-time 20 -d "{\"species\":\"$1\"}" \
    "localhost:$grpc_port" "$SERVICE/CreateDinosaur" >"$work/created"
  helper value "$work/created" 'r["metadata"]["id"]'
}

# ---- watches -----------------------------------------------------------------

# Returns when the headers are there: what commits from now on must arrive.
watch() { # NAME BODY : sets watch_pid; its output is in $work/NAME.watch
  : >"$work/$1.watch"
  grpcurl -plaintext -v -format-error -d "$2" "localhost:$grpc_port" "$SERVICE/WatchDinosaurs" \
    >"$work/$1.watch" 2>"$work/$1.watch.err" </dev/null &
  watch_pid=$!
  wait_for 20 "headers of the watch $1" grep -q '^hub-epoch: ' "$work/$1.watch"
}

# A watch begins at what is sealed: what was written before and is not sealed
# yet would come to it as well.
settle() { wait_for 60 'the hub to have sealed what was written' all_sealed; }
all_sealed() {
  [[ $(sql 'SELECT count(*) FROM hub.change c WHERE NOT EXISTS (SELECT FROM hub.log l WHERE l.xid = c.xid)') == 0 ]] &&
    metric_is "$(sql 'SELECT revision FROM hub.head')" hub_head_revision
}

header() { sed -n "s/^$2: //p" "$work/$1.watch" | head -n 1; } # WATCH HEADER

# A message of grpcurl's output ends with a brace in the first column.
seen() { [[ $(grep -c '^}' "$work/$1.watch") -ge $2 ]]; } # WATCH COUNT

# The stream's events, one a line: TYPE id species-before>species-after, after the
# rules that every stream keeps were checked (helper.py).
events() { # WATCH
  helper events "$work/$1.watch" || fail "the rules of the watch $1" 'kept' "$(tail -n 20 "$work/$1.watch")"
}

delivered() { # NAME WATCH EXPECTED-LINES : exactly these, in this order
  local count got
  count=$(grep -c . <<<"$3")
  wait_for 20 "$count events on the watch $2" seen "$2" "$count"
  got=$(events "$2")
  [[ $got == "$3" ]] || fail "$1" "$3" "$got"
  ok "$1"
}

unwatch() { # ends the last watch
  kill "$watch_pid" 2>/dev/null || true
  wait "$watch_pid" 2>/dev/null || true
}

unwatch_all() {
  local pid
  for pid in $(jobs -pr); do
    [[ $pid == "$hub" ]] || kill "$pid"
  done
}

# ---- metrics -----------------------------------------------------------------

scrape() { curl -fsS -m 5 "http://localhost:$metrics_port/metrics" >"$work/metrics"; }
metric() { scrape && helper metric "$work/metrics" "$@"; } # NAME LABEL=VALUE... : the sum
metric_is() { [[ $(metric "${@:2}") == "$1" ]]; } # VALUE NAME LABEL=VALUE...
