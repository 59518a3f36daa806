# shellcheck shell=bash
# What the protos already name and the hub does not build yet: refused, with
# the name of the field, and never ignored. Each line leaves this file with the
# issue that builds the thing, for a check of the thing itself.

not_yet() {
  local body
  refused 'not yet: BulkCreateDinosaurs' "$SERVICE/BulkCreateDinosaurs" '{"species":"x"}' Unimplemented True
  refused 'not yet: ImportDinosaurs' "$SERVICE/ImportDinosaurs" '{"start":{"import_id":"x"}}' Unimplemented True
  for body in '"backpressure":"BACKPRESSURE_POLICY_LATEST"'; do
    refused_by_name WatchDinosaurs "$body"
  done
}

refused_by_name() { # METHOD FIELD-AND-VALUE
  local field=${2%%:*}
  refused "not yet: $field of $1" "$SERVICE/$1" "{$2}" Unimplemented "${field//\"/\'} in r['message']"
}
