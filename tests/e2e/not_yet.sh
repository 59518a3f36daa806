# shellcheck shell=bash
# What the protos already name and the hub does not build yet: refused, with
# the name of the field, and never ignored. Each line leaves this file with the
# issue that builds the thing, for a check of the thing itself.

not_yet() {
  refused 'not yet: BulkCreateDinosaurs' "$SERVICE/BulkCreateDinosaurs" '{"species":"x"}' Unimplemented True
  refused 'not yet: ImportDinosaurs' "$SERVICE/ImportDinosaurs" '{"start":{"import_id":"x"}}' Unimplemented True
}
