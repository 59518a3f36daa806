# shellcheck shell=bash
# shellcheck disable=SC2154 # ports, work and log are set in lib.sh
# What a client sees without watching: the start, discovery, the unary calls.

first_start() {
  local port
  for port in "$grpc_port" "$admin_port" "$api_port" "$metrics_port" "$health_port"; do
    grep -q "localhost:$port" "$log" || fail 'start-up text' "localhost:$port named" "$(<"$log")"
  done
  grep -Eq "^ *grpcurl .*:$grpc_port" "$log" || fail 'start-up text' 'a grpcurl line' "$(<"$log")"
  ok 'start: says where everything listens, a grpcurl line, a psql line'
  equal 'start: /healthcheck' 200 "$(curl -s -o "$work/body" -w '%{http_code}' "http://localhost:$health_port/healthcheck")"
  equal 'start: psql reaches an empty table' 0 "$(sql 'SELECT count(*) FROM dinosaurs')"
  # initdb follows the locale, and this script runs in C, as many containers do.
  equal 'start: Postgres speaks UTF-8' UTF8 "$(sql 'SHOW server_encoding')"
  equal 'start: Postgres syncs to disk' on "$(sql 'SHOW fsync')"
  equal 'start: Postgres has no TCP listener' '' "$(sql 'SHOW listen_addresses')"
}

listed() { grep -qx "$1" "$work/list" || fail "list: $1" 'listed' "$(<"$work/list")"; }

discovery() {
  local name
  grpcurl -plaintext "localhost:$grpc_port" list >"$work/list"
  for name in "$SERVICE" hub.v1.AuditService grpc.health.v1.Health grpc.reflection.v1.ServerReflection \
    grpc.reflection.v1alpha.ServerReflection; do
    listed "$name"
  done
  ok 'reflection: list'
  for name in v1 v1alpha; do
    answers "reflection: $name answers" "grpc.reflection.$name.ServerReflection/ServerReflectionInfo" \
      '{"list_services":"*"}' "any(s['name'] == '$SERVICE' for s in r['listServicesResponse']['service'])"
  done
  grpcurl -plaintext "localhost:$grpc_port" describe "$SERVICE" >"$work/list"
  for name in Get Create Update Delete; do
    grep -q "rpc ${name}Dinosaur " "$work/list" || fail 'describe' "${name}Dinosaur" "$(<"$work/list")"
  done
  grep -q 'rpc WatchDinosaurs .* returns ( stream .rh_trex.v1.DinosaurWatchEvent )' "$work/list" ||
    fail 'describe' 'WatchDinosaurs' "$(<"$work/list")"
  ok 'reflection: describe the service'
  equal 'reflection: describe a message' 1 \
    "$(grpcurl -plaintext "localhost:$grpc_port" describe rh_trex.v1.WatchDinosaursRequest | grep -c 'optional uint64 after_revision = 4;')"
  for name in '' "$SERVICE"; do
    answers "health: '$name'" grpc.health.v1.Health/Check "{\"service\":\"$name\"}" "r['status'] == 'SERVING'"
  done
  rpc grpc.health.v1.Health/Check '{"service":"no.such.Service"}'
  equal 'health: a service that is not there' $((64 + CODES[NotFound])) "$rc"
}

unary_calls() {
  local id
  answers 'create' "$SERVICE/CreateDinosaur" '{"species":"Tyrannosaurus"}' \
    "r['species'] == 'Tyrannosaurus' and r['metadata']['kind'] == '$KIND' and r['metadata']['createdAt'] and r['metadata']['updatedAt'] and r['metadata']['href'] == '/api/rh-trex/v1/dinosaurs/' + r['metadata']['id']"
  id=$(reply 'r["metadata"]["id"]')
  answers 'get' "$SERVICE/GetDinosaur" "{\"id\":\"$id\"}" \
    "r['metadata']['id'] == '$id' and r['species'] == 'Tyrannosaurus' and r['metadata']['kind'] == '$KIND' and r['metadata']['href'].endswith('/$id')"
  equal 'create: the row is in the table' Tyrannosaurus "$(sql "SELECT species FROM dinosaurs WHERE id = '$id'")"
  answers 'update' "$SERVICE/UpdateDinosaur" "{\"id\":\"$id\",\"species\":\"Giganotosaurus\"}" \
    "r['species'] == 'Giganotosaurus' and r['metadata']['updatedAt'] > r['metadata']['createdAt']"
  answers 'update: an absent species leaves it' "$SERVICE/UpdateDinosaur" "{\"id\":\"$id\"}" "r['species'] == 'Giganotosaurus'"
  answers 'update: an empty species is allowed' "$SERVICE/UpdateDinosaur" "{\"id\":\"$id\",\"species\":\"\"}" "r['species'] == ''"
  equal 'update: the row is in the table' '' "$(sql "SELECT species FROM dinosaurs WHERE id = '$id'")"
  answers 'delete' "$SERVICE/DeleteDinosaur" "{\"id\":\"$id\"}" 'r == {}'
  equal 'delete: the row is gone' 0 "$(sql "SELECT count(*) FROM dinosaurs WHERE id = '$id'")"
  refused 'delete: what is not there' "$SERVICE/DeleteDinosaur" "{\"id\":\"$id\"}" NotFound True
  refused 'get: what is not there' "$SERVICE/GetDinosaur" "{\"id\":\"$id\"}" NotFound True
  refused 'update: what is not there' "$SERVICE/UpdateDinosaur" "{\"id\":\"$id\",\"species\":\"x\"}" NotFound True
}

page() { # NAME BODY PAGE SIZE ITEMS
  answers "list: $1" "$SERVICE/ListDinosaurs" "$2" \
    "(r['metadata']['page'], r['metadata']['size'], r['metadata']['total'], len(r['items'])) == ($3, $4, 45, $5) and int(r['metadata']['revision']) > 0"
}

list_pages() {
  local seen
  sql "DELETE FROM dinosaurs" "INSERT INTO dinosaurs(species) SELECT 'listed ' || n FROM generate_series(1, 45) n"
  page 'defaults' '{}' 1 20 20
  seen=$(reply '" ".join(i["metadata"]["id"] for i in r["items"])')
  page 'page 2' '{"page":2}' 2 20 20
  seen+=" $(reply '" ".join(i["metadata"]["id"] for i in r["items"])')"
  page 'the last page' '{"page":3}' 3 20 5
  seen+=" $(reply '" ".join(i["metadata"]["id"] for i in r["items"])')"
  equal 'list: the pages together are the table' "$(sql 'SELECT id FROM dinosaurs ORDER BY id COLLATE "C"')" \
    "$(tr ' ' '\n' <<<"$seen" | sort)"
  page 'beyond the last page' '{"page":9}' 9 20 0
  page 'page 0 is 1' '{"page":0,"size":7}' 1 7 7
  page 'page -3 is 1' '{"page":-3,"size":45}' 1 45 45
  page 'size -1 is 20' '{"size":-1}' 1 20 20
  page 'size 501 is 20' '{"size":501}' 1 20 20
  page 'size 500 is taken' '{"size":500}' 1 500 45
  page 'the largest numbers' '{"page":2147483647,"size":500}' 2147483647 500 0
  answers 'list: items are whole' "$SERVICE/ListDinosaurs" '{"size":1}' \
    "r['items'][0]['species'].startswith('listed ') and r['items'][0]['metadata']['kind'] == '$KIND'"
}

bad_requests() {
  local method long
  long=$(printf 'é%.0s' {1..128}) # 256 bytes, 128 characters: the bound counts bytes
  refused 'create: an empty species' "$SERVICE/CreateDinosaur" '{"species":""}' InvalidArgument "fields == ['species']"
  refused 'create: an absent species' "$SERVICE/CreateDinosaur" '{}' InvalidArgument "fields == ['species']"
  refused 'create: 256 bytes' "$SERVICE/CreateDinosaur" "{\"species\":\"$long\"}" InvalidArgument "fields == ['species']"
  answers 'create: 255 bytes' "$SERVICE/CreateDinosaur" "{\"species\":\"${long%é}x\"}" "len(r['species'].encode()) == 255"
  refused 'update: 256 bytes' "$SERVICE/UpdateDinosaur" "{\"id\":\"$(reply 'r["metadata"]["id"]')\",\"species\":\"$long\"}" \
    InvalidArgument "fields == ['species']"
  for method in Get Update Delete; do
    refused "${method,}: no id" "$SERVICE/${method}Dinosaur" '{}' InvalidArgument "fields == ['id']"
  done
  refused 'create: a message of 8 MiB' "$SERVICE/CreateDinosaur" \
    "{\"species\":\"$(head -c 8388608 /dev/zero | tr '\0' x)\"}" ResourceExhausted True
  refused 'watch: an unknown event type' "$SERVICE/WatchDinosaurs" '{"types":[99]}' InvalidArgument True
  rpc "$SERVICE/NoSuchCall" '{}'
  [[ $rc -ne 0 ]] || fail 'an unknown method' 'an error' 'OK'
  ok 'an unknown method'
}
