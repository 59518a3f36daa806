"""The parts of the end-to-end checks that want more than a shell."""

import base64
import json
import os
import random
import re
import socket
import sys


def fields_of(wire):
    """The length-delimited fields of a protobuf message, by number."""
    at, found = 0, {}

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = wire[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(wire):
        key = varint()
        if key & 7 == 2:
            length = varint()
            found.setdefault(key >> 3, []).append(wire[at : at + length])
            at += length
        else:
            varint()
    return found


def details(status, name):
    """The status details of that type; grpcurl shows types it does not know as raw bytes."""
    for detail in status.get("details", []):
        if not detail.get("@type", "").endswith("." + name):
            continue
        if "@value" not in detail:
            yield detail
            continue
        parts = fields_of(base64.b64decode(detail["@value"]))
        text = lambda parts, number: parts.get(number, [b""])[0].decode()
        if name == "ErrorInfo":
            metadata = {}
            for entry in map(fields_of, parts.get(3, [])):
                metadata[text(entry, 1)] = text(entry, 2)
            yield {"reason": text(parts, 1), "domain": text(parts, 2), "metadata": metadata}
        elif name == "BadRequest":
            violations = [{"field": text(fields_of(v), 1)} for v in parts.get(1, [])]
            yield {"fieldViolations": violations}
        else:
            yield detail


def camel(parsed):
    """grpcurl takes JSON names from the descriptors it was sent, and the proto's if they name none."""
    return {re.sub(r"(?<!^)_([a-z])", lambda m: m[1].upper(), key): v for key, v in parsed.items()}


def scope(path):
    with open(path, encoding="utf-8") as file:
        reply = json.load(file, object_hook=camel)
    info = next(details(reply, "ErrorInfo"), {"reason": "", "domain": ""})
    violations = [v for d in details(reply, "BadRequest") for v in d["fieldViolations"]]
    retry = next(details(reply, "RetryInfo"), None)
    return {"r": reply, "info": info, "fields": [v["field"] for v in violations], "retry": retry}


def check(path, expression):
    names = scope(path)
    shown = json.dumps(names)[:1500]
    try:
        if eval(expression, names):
            return 0
    except (KeyError, IndexError, TypeError) as missing:
        shown += f" ({missing!r})"
    print(shown)
    return 1


def value(path, expression):
    print(eval(expression, scope(path)))


def stream(path):
    """The messages in the output of `grpcurl -v`, and the headers before them."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    headers = dict(re.findall(r"^(hub-\w+): (.*)$", text, re.MULTILINE))
    messages, decoder = [], json.JSONDecoder(object_hook=camel)
    for match in re.finditer(r"^\{", text, re.MULTILINE):
        try:
            messages.append(decoder.raw_decode(text, match.start())[0])
        except json.JSONDecodeError:
            break  # the last one, still on its way
    return headers, messages


def events(path):
    headers, messages = stream(path)
    last = int(headers["hub-revision"])
    for event in messages:
        kind = event["type"].removeprefix("EVENT_TYPE_")
        revision, resource = int(event["revision"]), event["resourceId"]
        assert kind in ("CREATED", "UPDATED", "DELETED"), f"not asked for: {event}"
        assert revision > last, f"Ordered: {revision} after {last}"
        last = revision
        assert event.get("occurredAt"), f"no occurred_at: {event}"
        assert not int(event.get("droppedBefore", 0)), f"dropped: {event}"
        assert ("dinosaur" in event) == (kind != "DELETED"), f"dinosaur: {event}"
        for row in filter(None, (event.get("dinosaur"), event.get("previous"))):
            metadata = row["metadata"]
            assert metadata["kind"] == "Dinosaur", row
            assert metadata["id"] == resource, row
            assert metadata["href"] == "/api/rh-trex/v1/dinosaurs/" + resource, row
            assert metadata["createdAt"] and metadata["updatedAt"], row
        species = lambda row: "-" if row is None else row.get("species", "")
        print(kind, resource, species(event.get("previous")) + ">" + species(event.get("dinosaur")))


def revision(path, index):
    print(stream(path)[1][int(index)]["revision"])


def ids(path):
    for event in stream(path)[1]:
        print(event["resourceId"])


def lines(path):
    """What `trex watch --output json` printed: an object a line."""
    with open(path, encoding="utf-8") as file:
        printed = [json.loads(line, object_hook=camel) for line in file]
    print(*(f"{e['type'].removeprefix('EVENT_TYPE_')} {e['resourceId']}" for e in printed))


def trail(path="/dev/stdin"):
    """What `trex audit --output json` printed: type, actor, species before and after."""
    with open(path, encoding="utf-8") as file:
        for record in map(json.loads, file):
            species = [(row or {}).get("species", "null") for row in (record["before"], record["after"])]
            print(record["type"], record["actor"], *species)


def metric(path, name, *labels):
    """The sum of a metric's samples with these labels, in whatever order they stand."""
    wanted, total = dict(label.split("=", 1) for label in labels), 0.0
    with open(path, encoding="utf-8") as file:
        for line in file:
            sample = re.match(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)", line)
            if sample and sample[1] == name:
                has = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', sample[2] or ""))
                if wanted.items() <= has.items():
                    total += float(sample[3])
    print(f"{total:g}")


def ports(count):
    """Free ports below the range that outgoing connections take theirs from."""
    held = []
    while len(held) < int(count):
        port = random.randrange(15000, 30000)
        try:
            # Both loopbacks, as `localhost` means to the hub.
            listeners = [socket.create_server(("127.0.0.1", port))]
            if socket.has_ipv6 and os.path.exists("/proc/net/if_inet6"):
                listeners.append(socket.create_server(("::1", port), family=socket.AF_INET6))
            held.append((port, listeners))
        except OSError:
            continue
    print(*(port for port, _ in held))


def inside(directory):
    """The processes that work in a directory, as Postgres works in its data directory."""
    directory = os.path.realpath(directory)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            place = os.readlink(f"/proc/{pid}/cwd").removesuffix(" (deleted)")
        except OSError:
            continue  # gone meanwhile, or another user's
        if place == directory or place.startswith(directory + "/"):
            print(pid)


if __name__ == "__main__":
    commands = [check, value, events, revision, ids, lines, trail, metric, ports, inside]
    sys.exit({c.__name__: c for c in commands}[sys.argv[1]](*sys.argv[2:]))
