# shellcheck shell=bash
# shellcheck disable=SC2154 # ports, work, data and the like are set in lib.sh and run
# The HTTP API by curl: streams, a browser's resuming through a kill of the hub, tables.

http() { # METHOD PATH [CURL-ARGUMENT...] : prints the body; the status is in $work/http.status
  curl -sS -m 20 -X "$1" "http://localhost:$api_port$2" -w '%{stderr}%{http_code}' "${@:3}" 2>"$work/http.status"
}

status_is() { # NAME STATUS
  equal "$1" "$2" "$(<"$work/http.status")"
}

# Returns when the stream is open: what commits from now on must arrive.
stream() { # NAME PATH [CURL-ARGUMENT...] : sets stream_pid; its output is in $work/NAME.stream
  curl -sSN -m 300 "http://localhost:$api_port$2" "${@:3}" >"$work/$1.stream" </dev/null &
  stream_pid=$!
  wait_for 20 "the stream $1 to open" grep -q open "$work/$1.stream"
}

told() { [[ $(grep -c "$2" "$work/$1.stream") -ge $3 ]]; } # STREAM PATTERN COUNT

http_streams() {
  local id got
  sql 'TRUNCATE dinosaurs'
  settle
  stream lines /v1/tables/dinosaurs/watch -H 'accept: application/x-ndjson'
  stream before /v1/tables/dinosaurs/watch
  sql "INSERT INTO dinosaurs(id, species) SELECT 'sse ' || n, 'x' FROM generate_series(1, 500) n"
  wait_for 20 'events as lines' told lines '"type":"created"' 500
  equal 'http: a line of JSON for each event' 500 \
    "$(grep '"type":"created"' "$work/lines.stream" | python3 -c 'import json, sys; print(len({json.loads(line)["event"]["resource_id"] for line in sys.stdin}))')"
  wait_for 20 'events of SSE' told before '^event: created' 500
  kill -KILL "$hub"
  hub_ends 10
  wait "$stream_pid" || true
  id=$(sed -n 's/^id: //p' "$work/before.stream" | tail -n 1)
  start_hub "$data"
  sql "INSERT INTO dinosaurs(id, species) SELECT 'sse ' || n, 'x' FROM generate_series(501, 700) n"
  stream after /v1/tables/dinosaurs/watch -H "Last-Event-ID: $id"
  wait_for 20 'events after the kill' told after '^event: created' 200
  kill "$stream_pid"
  got=$(cat "$work/before.stream" "$work/after.stream" | sed -nE 's/^data: .*"resource_id":"(sse [0-9]+)".*/\1/p')
  equal 'http: a browser gets each event once through a kill of the hub' "$(sql "SELECT id FROM dinosaurs" | sort)" "$(sort <<<"$got")"
  curl -sSN -m 20 "http://localhost:$api_port/v1/tables/dinosaurs/watch" -H 'Last-Event-ID: another:7:0' >"$work/gone.stream"
  equal 'http: a position of another history ends the stream and is forgotten' $'id:\nevent: end' "$(grep -E '^(id|event):' "$work/gone.stream" | tr -d '\r')"
}

http_tables() {
  local page tag
  sql 'CREATE TABLE http_orders (id bigint PRIMARY KEY, status text)'
  "$trex" attach public.http_orders --server "http://localhost:$admin_port" >/dev/null
  equal 'http: a row is made' '{"id":"7","status":"open"}' \
    "$(http POST /v1/tables/http_orders/rows -H 'content-type: application/json' -d '{"id":7,"status":"open"}')"
  status_is 'http: a row is made: status' 201
  tag=$(curl -sSI "http://localhost:$api_port/v1/tables/http_orders/rows/7" | sed -nE 's/^etag: ([^\r]*)\r?$/\1/ip')
  http PATCH /v1/tables/http_orders/rows/7 -H 'content-type: application/json' -H "if-match: $tag" -d '{"status":"paid"}' >/dev/null
  status_is 'http: a row is changed as it was seen' 200
  http PATCH /v1/tables/http_orders/rows/7 -H 'content-type: application/json' -H "if-match: $tag" -d '{"status":"lost"}' >/dev/null
  status_is 'http: a row is not changed that is another by now' 412
  page=$(http GET '/v1/tables/http_orders/rows?filter=status%20%3D%20%22paid%22')
  equal 'http: rows are found' 7 "$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["rows"][0]["resource_id"])' "$page")"
  http DELETE /v1/tables/http_orders/rows/7
  status_is 'http: a row is deleted' 204
  http GET /v1/tables/http_orders/rows/7 >/dev/null
  status_is 'http: a row that is not there' 404
  sql 'DROP TABLE http_orders'
}
