"""The metrics, alerts and panels that this repository names."""

import json
import pathlib
import re

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/prometheus/trex.rules.yaml"
DASHBOARD = ROOT / "deploy/grafana/trex.json"
METRIC = re.compile(r"\b(?:hub|grpc|http|process)_[a-z_]+\b")
# What a histogram's name grows by.
SUFFIX = re.compile(r"_(?:bucket|count|sum)$")
# Of the client library: seen on a hub's /metrics by scrape.py, and nowhere in our source.
PROCESS = {
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
}


def text(path):
    return (ROOT / path).read_text(encoding="utf-8")


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels():
    """Those that ask for something."""
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def expressions():
    """(where, expression) of every rule and panel."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def metrics_of(expression):
    """Without what stands in quotation marks, which are values of labels."""
    bare = re.sub(r'"[^"]*"', "", expression)
    return {SUFFIX.sub("", name) for name in METRIC.findall(bare)}


def declared():
    """Every metric that the source declares."""
    files = sorted((ROOT / "src").rglob("*.rs"))
    found = set(PROCESS)
    for file in files:
        found |= set(re.findall(r'"((?:hub|grpc|http)_[a-z_]+)"', file.read_text(encoding="utf-8")))
    return found
