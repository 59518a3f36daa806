# shellcheck shell=bash
# shellcheck disable=SC2154 # work, trex, data and the like are set in lib.sh and run
# The audit trail: who changed what, by psql and by a call through a proxy that says who calls.

readonly AUDIT=hub.v1.AuditService

in_trail() { [[ $(trail "$@" | grep -c .) -ge 1 ]]; } # ARGUMENT...
trail() { "$trex" audit --server "http://localhost:$grpc_port" "$@"; }

audit_trail() {
  local id began
  refused 'audit: nobody keeps a trail' "$AUDIT/ListAuditRecords" '{}' Unimplemented "'--audit' in r['message']"
  stop_hub
  start_hub "$data" --audit --trust-actor-metadata trex-actor
  began=$(sql 'SELECT revision FROM hub.head')
  sql "BEGIN; SET LOCAL hub.actor = 'alice'; INSERT INTO dinosaurs(id, species) VALUES ('audited', 'one'); COMMIT"
  grpcurl -plaintext -H 'trex-actor: bob' -d '{"id":"audited","species":"two"}' "localhost:$grpc_port" \
    "$SERVICE/UpdateDinosaur" >/dev/null
  id=$(sql "DELETE FROM dinosaurs WHERE id = 'audited' RETURNING id")
  wait_for 20 'the deletion in the trail' in_trail --id "$id" --actor "$(sql 'SELECT current_user')"
  equal 'audit: newest first, and who' "DELETED $(sql 'SELECT current_user') two null
UPDATED bob one two
CREATED alice null one" "$(trail --id audited --output json | helper trail)"
  answers 'audit: a page, its token, and up to where it is complete' "$AUDIT/ListAuditRecords" \
    '{"resource_id":"audited","page_size":2}' \
    "[x['type'] for x in r['records']] == ['AUDIT_RECORD_TYPE_DELETED', 'AUDIT_RECORD_TYPE_UPDATED'] and int(r['completeRevision']) >= $began + 3 and r['nextPageToken']"
  answers 'audit: the next page' "$AUDIT/ListAuditRecords" \
    "{\"resource_id\":\"audited\",\"page_size\":2,\"page_token\":\"$(reply 'r["nextPageToken"]')\"}" \
    "[x['actor'] for x in r['records']] == ['alice'] and r['nextPageToken'] == ''"
  refused 'audit: a bad token' "$AUDIT/ListAuditRecords" '{"page_token":"x"}' InvalidArgument "fields == ['page_token']"
  equal 'audit: follows' "$((began + 1))" \
    "$(timeout 20 "$trex" audit --server "http://localhost:$grpc_port" --follow --after-revision "$began" --output json | head -n 1 | helper value /dev/stdin 'r["revision"]')"
  attempt dead-letters list --database-url "${psql_words[1]}"
  equal 'dead letters: none' "0 " "$rc $(<"$work/attempt")"
  attempt dead-letters retry 7 --database-url "${psql_words[1]}"
  one_line 'dead letters: one that is not there' 'no dead letter 7'
  attempt dead-letters discard --database-url "${psql_words[1]}"
  [[ $rc -ne 0 ]] || fail 'dead letters: discard what?' 'a refusal' "$(<"$work/attempt")"
  ok 'dead letters: nothing is discarded without being named'
}
