"""Runs examples/read_events.py, kills it at random moments, and demands that every event was kept once."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time


def main(example, server, into, expected):
    expected, kills, runs = int(expected), 0, 0
    # Such that a run of the whole is killed some tens of times, whatever the machine.
    patience = 0.1
    while True:
        runs += 1
        command = [sys.executable, example, "--server", server, "--into", into, "--batch-size", "250"]
        # A session of its own: grpcurl goes with it.
        reader = subprocess.Popen(command, start_new_session=True)
        try:
            status = reader.wait(timeout=random.uniform(0.05, patience))
        except subprocess.TimeoutExpired:
            os.killpg(reader.pid, signal.SIGKILL)
            reader.wait()
            kills, patience = kills + 1, patience * 1.1
            continue
        if status != 0:
            sys.exit(f"the reader ended with {status}")
        break
    copy = sqlite3.connect(into)
    count, lowest, highest = copy.execute("SELECT count(*), min(revision), max(revision) FROM event").fetchone()
    position = copy.execute("SELECT revision FROM position").fetchone()[0]
    # The revision is the table's key: what came twice would have ended the reader.
    if (count, lowest, highest, position) != (expected, 1, expected, expected):
        sys.exit(f"kept {count} events, {lowest} to {highest}, position {position}; there are {expected}")
    print(f"{count} events, each once; {runs} runs, {kills} killed")


if __name__ == "__main__":
    started = time.monotonic()
    main(*sys.argv[1:])
    print(f"in {time.monotonic() - started:.0f} s", file=sys.stderr)
