#!/usr/bin/env python3
"""Copies the log of a hub into an SQLite file, each event exactly once.

    examples/read_events.py --into events.sqlite [--server localhost:9000] [--kind Dinosaur]

It reads up to the newest event and ends; run it again for what has come since.
Killed at any moment it goes on where it was: an event and the position after
it are in one transaction. The position is an epoch and a revision, and both
are sent. It needs grpcurl and nothing else; with a generated client the loop
is the same.

Exit codes: 0 the newest event was reached; 1 try again later; 2 the position
means nothing any more (the hub's message says why): events were missed, and
whoever uses the copy must know.
"""

import argparse
import json
import sqlite3
import subprocess
import sys

OUT_OF_RANGE = 11

parser = argparse.ArgumentParser(description="Copies the log of a hub into an SQLite file.")
parser.add_argument("--server", default="localhost:9000")
parser.add_argument("--into", required=True, metavar="FILE")
parser.add_argument("--kind", action="append", default=[])
parser.add_argument("--batch-size", type=int, default=500)
arguments = parser.parse_args()

copy = sqlite3.connect(arguments.into, isolation_level=None)
copy.executescript(
    """CREATE TABLE IF NOT EXISTS event (
         revision INTEGER PRIMARY KEY, kind TEXT, resource_id TEXT, type TEXT, actor TEXT, row TEXT);
       CREATE TABLE IF NOT EXISTS position (only INTEGER PRIMARY KEY CHECK (only = 0), epoch TEXT, revision INTEGER);
       INSERT OR IGNORE INTO position VALUES (0, '', 0);"""
)


def messages(output):
    """grpcurl prints a message over several lines, and its last brace in the first column."""
    lines = []
    for line in output:
        lines.append(line)
        if line == "}\n":
            yield json.loads("".join(lines))
            lines = []


def keep(batch):
    copy.execute("BEGIN IMMEDIATE")
    copy.executemany(
        "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?)",
        (
            (int(e["revision"]), e["kind"], e["resourceId"], e["type"], e.get("actor"), e.get("afterJson"))
            for e in batch.get("events", [])
        ),
    )
    copy.execute("UPDATE position SET epoch = ?, revision = ?", (batch["epoch"], int(batch["nextAfterRevision"])))
    copy.execute("COMMIT")


epoch, revision = copy.execute("SELECT epoch, revision FROM position").fetchone()
request = {
    "after_revision": revision,
    "epoch": epoch,
    "kinds": arguments.kind,
    "batch_size": arguments.batch_size,
}
command = ["grpcurl", "-plaintext", "-emit-defaults", "-d", json.dumps(request), arguments.server]
reader = subprocess.Popen([*command, "hub.v1.EventService/ReadEvents"], stdout=subprocess.PIPE, text=True)
for batch in messages(reader.stdout):
    keep(batch)
# grpcurl exits with 64 + the status code, and has said what is wrong.
status = reader.wait()
sys.exit(0 if status == 0 else 2 if status == 64 + OUT_OF_RANGE else 1)
