# shellcheck shell=bash
# shellcheck disable=SC2154 # ports, work, data and the like are set in lib.sh and run
# Import and export by the program, and an import by the Python example.

imports() { # ARGUMENT... : sets rc; all output is in $work/attempt
  attempt import --server "localhost:$grpc_port" "$@"
}

count() { sql 'SELECT count(*) FROM dinosaurs'; }

clear_table() {
  sql 'DELETE FROM dinosaurs'
  settle
}

real_names() { # FILE
  cp "$here/../data/dinosaurs.ndjson" "$1"
}

import_files() {
  local names=$work/names.ndjson
  clear_table
  real_names "$names"
  watch follow '{}'
  imports "$names"
  equal 'import: exit code when everything is in' 0 "$rc"
  equal 'import: every real name is in' 1449 "$(count)"
  wait_for 20 'the watch to have them' seen follow 1449
  events follow >/dev/null
  unwatch
  imports "$names"
  equal 'import: the same file again is not imported twice' 1449 "$(count)"

  clear_table
  gzip -c "$names" >"$names.gz"
  "$trex" import --quiet --server "localhost:$grpc_port" - <"$names.gz"
  equal 'import: a pipe, compressed' 1449 "$(count)"

  printf 'name,id\nx,1\n' >"$work/wrong.csv"
  imports "$work/wrong.csv"
  equal 'import: exit code of a wrong header' 1 "$rc"
  one_line 'import: a wrong header' 'species (required) and id'

  printf 'id,species\nnew,Tyrannosaurus\nnew,again\n,\n' >"$work/some.csv"
  imports "$work/some.csv"
  equal 'import: exit code when a part is in' 3 "$rc"
  equal 'import: what was rejected' '3 ALREADY_EXISTS
4 INVALID_FIELD' "$(sed -E 's/.*"line":([0-9]+).*"code":"([A-Z_]+)".*/\1 \2/' "$work/some.csv.rejects.ndjson")"
}

export_and_back() {
  local before
  before=$(sql "SELECT md5(string_agg(id || species, ',' ORDER BY id)) FROM dinosaurs")
  "$trex" export --server "localhost:$grpc_port" --out "$work/all.csv" 2>"$work/export.err"
  equal 'export: a line for each row, and a header' 1451 "$(wc -l <"$work/all.csv")"
  grep -Eq '^1450 rows at revision [0-9]+ of epoch [0-9a-f]+$' "$work/export.err" ||
    fail 'export: says its revision' 'rows, revision and epoch' "$(<"$work/export.err")"
  ok 'export: says its revision'
  clear_table
  imports "$work/all.csv"
  equal 'export: what it writes can be imported' "$before" \
    "$(sql "SELECT md5(string_agg(id || species, ',' ORDER BY id)) FROM dinosaurs")"
}

# grpcio and grpcio-tools, which the gate installs for a Python of its own.
import_by_python() {
  local python=${E2E_PYTHON:-python3} names=$work/python.ndjson got
  "$python" -c 'import grpc_tools' 2>/dev/null ||
    fail 'python' 'grpcio-tools for python3, or a Python that has them in E2E_PYTHON' 'missing'
  clear_table
  real_names "$names"
  printf '{"species":""}\n' >>"$names"
  got=$(PYTHONDONTWRITEBYTECODE=1 "$python" "$here/../../examples/import.py" "$names" "localhost:$grpc_port" 2>"$work/python.err") || true
  equal 'python: imports' '1449 created, 1 failed' "$got"
  equal 'python: is told what failed' 'item 1449: INVALID_FIELD: species: is required' "$(<"$work/python.err")"
  equal 'python: every name is in' 1449 "$(count)"
  got=$(PYTHONDONTWRITEBYTECODE=1 "$python" "$here/../../examples/import.py" "$names" "localhost:$grpc_port" 2>/dev/null) || true
  equal 'python: resumes at the end' '1449 created, 1 failed' "$got"
  equal 'python: nothing is in twice' 1449 "$(count)"

  # A line that is no item ends the program before anything is sent; a blank one is none.
  clear_table
  printf '{"species":"x"}\n\n{"species":"y"}\n' >"$work/blank.ndjson"
  got=$(PYTHONDONTWRITEBYTECODE=1 "$python" "$here/../../examples/import.py" "$work/blank.ndjson" "localhost:$grpc_port" 2>&1) || true
  equal 'python: a blank line' '2 created, 0 failed' "$got"
  printf '{"species":"z"}\n{"species"\n' >"$work/broken.ndjson"
  PYTHONDONTWRITEBYTECODE=1 timeout 60 "$python" "$here/../../examples/import.py" "$work/broken.ndjson" "localhost:$grpc_port" 2>"$work/python.err" && rc=0 || rc=$?
  equal 'python: a broken line ends it' '1 2' "$rc $(sed -n 's/.*, line \([0-9]*\): no item: .*/\1/p' "$work/python.err")"
  equal 'python: and nothing of it is in' 2 "$(count)"

  # A frame for each message, faster than they are committed.
  clear_table
  awk 'BEGIN { for (n = 0; n < 20000; n++) print "{\"species\":\"x\"}" }' >"$work/many.ndjson"
  got=$(PYTHONDONTWRITEBYTECODE=1 "$python" "$here/../../examples/import.py" "$work/many.ndjson" "localhost:$grpc_port" 2>"$work/python.err") || true
  equal 'python: twenty thousand' '20000 created, 0 failed' "$got"
  equal 'python: on one connection' '' "$(<"$work/python.err")"
  clear_table
}
