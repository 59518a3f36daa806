# shellcheck shell=bash
# shellcheck disable=SC2154 # here, work and grpc_port are set in run and lib.sh
# Streams of items: BulkCreateDinosaurs and ImportDinosaurs, as grpcurl sends them.

bulk_calls() {
  local before names
  before=$(sql 'SELECT count(*) FROM dinosaurs')
  answers 'bulk create: one bad item fails alone' "$SERVICE/BulkCreateDinosaurs" \
    '{"species":"bulk 0"} {"species":""} {"species":"bulk 2"}' \
    "(r['created'], r['failed'], r['errorsOmitted']) == (2, 1, 0) and [(e['index'], e['id'], e['code']) for e in r['errors']] == [(1, 'INVALID_FIELD', 3)] and r['errors'][0]['reason'] and r['errors'][0]['operationId']"
  equal 'bulk create: the others are in the table' 'bulk 0,bulk 2' \
    "$(sql "SELECT string_agg(species, ',' ORDER BY species) FROM dinosaurs WHERE species LIKE 'bulk %'")"
  answers 'bulk create: nothing' "$SERVICE/BulkCreateDinosaurs" '' "(r['created'], r['failed']) == (0, 0)"

  names=$here/../data/dinosaurs.ndjson
  bulk_of_names names-1 "$names"
  equal 'bulk create: every real name' $((before + 2 + 1449)) "$(sql 'SELECT count(*) FROM dinosaurs')"
  bulk_of_names names-1 "$names"
  equal 'bulk create: repeated with its import-id, nothing twice' $((before + 2 + 1449)) "$(sql 'SELECT count(*) FROM dinosaurs')"

  answers_import 'import: acknowledged' '{"start":{"import_id":"e2e"}} {"item":{"species":"import 0"}} {"item":{"id":"imported","species":"import 1"}}' '0 2'
  answers_import 'import: goes on where it was' '{"start":{"import_id":"e2e","acknowledged":2}} {"item":{"id":"imported","species":"import 2"}}' '2 3'
  equal 'import: an id that exists fails' ALREADY_EXISTS "$(sed -n 's/^ *"id": "\([A-Z_]*\)",$/\1/p' "$work/reply")"
  equal 'import: the table' 'import 0,import 1' \
    "$(sql "SELECT string_agg(species, ',' ORDER BY species) FROM dinosaurs WHERE species LIKE 'import %'")"
  refused 'import: without an id' "$SERVICE/ImportDinosaurs" '{"start":{}}' InvalidArgument "fields == ['start.import_id']"
  refused 'import: unknown as far as that' "$SERVICE/ImportDinosaurs" '{"start":{"import_id":"e2e","acknowledged":4}}' OutOfRange \
    "info['reason'] == 'IMPORT_UNKNOWN' and info['metadata']['known'] == '3'"
}

bulk_of_names() { # IMPORT-ID FILE
  grpcurl -plaintext -max-time 60 -emit-defaults -H "import-id: $1" -d @ "localhost:$grpc_port" \
    "$SERVICE/BulkCreateDinosaurs" <"$2" >"$work/reply" 2>"$work/error" || fail 'bulk create: real names' OK "$(<"$work/error")"
  equal 'bulk create: real names' '1449 0' "$(reply 'r["created"], r["failed"]' | tr -d '(,)')"
}

answers_import() { # NAME BODY POSITIONS : the first and the last position of the answers
  local seen
  rpc "$SERVICE/ImportDinosaurs" "$2"
  [[ $rc -eq 0 ]] || fail "$1" OK "$(<"$work/error")"
  seen=$(sed -n 's/^ *"nextIndex": "\([0-9]*\)",\{0,1\}$/\1/p' "$work/reply")
  equal "$1" "$3" "$(head -n 1 <<<"$seen") $(tail -n 1 <<<"$seen")"
}
