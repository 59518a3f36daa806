#!/usr/bin/env python3
"""Imports dinosaurs from a file of NDJSON, and goes on where it stopped.

    pip install grpcio grpcio-tools
    python3 examples/import.py dinosaurs.ndjson localhost:9000

Every item is created once or fails once, however often the connection, the hub
or this program is lost: the same command goes on. How that works: docs/bulk.md.
"""

import hashlib
import itertools
import json
import pathlib
import queue
import random
import sys
import time

import grpc

# Compiled when they are imported, from the protos beside this folder and from the one in it.
sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "proto"))
protos, services = grpc.protos_and_services("rh_trex/v1/dinosaurs.proto")
statuses = grpc.protos("status.proto")

# The hub, its database or the way to it is away or busy for a while.
TRY_AGAIN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


def details(error):
    """The reason of an error, and how many seconds it asks to wait."""
    info, retry = statuses.ErrorInfo(), statuses.RetryInfo()
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            for detail in statuses.Status.FromString(value).details:
                for known in info, retry:
                    if detail.type_url == f"type.googleapis.com/google.rpc.{known.DESCRIPTOR.name}":
                        known.ParseFromString(detail.value)
    return info.reason, retry.retry_delay.ToTimedelta().total_seconds()


class Import:
    def __init__(self, path):
        self.path = path
        # The content names the import: the same file resumes, and no other is taken for it.
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            for chunk in iter(lambda: file.read(1 << 20), b""):
                digest.update(chunk)
        self.id = "py-" + digest.hexdigest()
        # Every item below this index is decided, and its failure, if it failed, was printed.
        self.next_index = 0
        self.created = self.failed = 0

    def items(self):
        """The same items in the same order, whenever it is asked: an index means one of them."""
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    item = json.loads(line)
                    message = protos.ImportDinosaursItem(id=item.get("id"), species=item["species"])
                except (ValueError, TypeError, KeyError, AttributeError) as error:
                    sys.exit(f"{self.path}, line {number}: no item: {error!r}")
                yield message

    def attempt(self, stub):
        """One stream, to its end."""
        begin_at = queue.SimpleQueue()

        # Runs on a thread of grpc, which takes messages as fast as the hub does.
        def messages():
            start = protos.ImportDinosaursStart(
                import_id=self.id, batch_size=1000, acknowledged=self.next_index
            )
            yield protos.ImportDinosaursRequest(start=start)
            first = begin_at.get()
            if first is not None:
                for item in itertools.islice(self.items(), first, None):
                    yield protos.ImportDinosaursRequest(item=item)

        try:
            for n, answer in enumerate(stub.ImportDinosaurs(messages())):
                if n == 0:
                    begin_at.put(answer.next_index)
                for error in answer.errors:
                    print(f"item {error.index}: {error.id}: {error.reason}", file=sys.stderr)
                self.next_index = answer.next_index
                self.created, self.failed = answer.created, answer.failed
        finally:
            begin_at.put(None)

    def run(self, server):
        pause = 0.1
        while True:
            before = self.next_index
            # A new channel: the old one may wait longer before it looks again.
            with grpc.insecure_channel(server) as channel:
                try:
                    return self.attempt(services.DinosaurServiceStub(channel))
                except grpc.RpcError as error:
                    reason, asked = details(error)
                    # ABORTED: another program imports the same. OUT_OF_RANGE: the hub has forgotten the import.
                    if error.code() not in TRY_AGAIN or reason == "TOO_LARGE":
                        raise
                    print(f"{error.code().name}: {error.details()}", file=sys.stderr)
            pause = 0.1 if self.next_index > before else min(2 * pause, 5)
            time.sleep(max(asked, pause * random.uniform(0.5, 1)))


def main():
    path, server = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "localhost:9000"
    this = Import(path)
    # Before anything is sent: within a stream, a line that is no item would look like a connection that is lost, again and again.
    count = sum(1 for _ in this.items())
    this.run(server)
    if this.next_index != count:
        sys.exit(f"the hub has decided {this.next_index} items, and the file has {count}")
    print(f"{this.created} created, {this.failed} failed")
    return 0 if this.failed == 0 else 3


if __name__ == "__main__":
    sys.exit(main())
