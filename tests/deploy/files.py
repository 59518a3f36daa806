"""What the files under deploy/ and the pages of docs/ say of each other and of the source."""

import re
import shutil
import subprocess
import sys

import kubernetes_validate
import yaml

from named import ROOT, declared, expressions, metrics_of, panels, rules, text

KUBERNETES = "1.31"
FAULTS = []


def check(holds, what):
    if not holds:
        FAULTS.append(what)


def anchors(page):
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", text(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def alerts():
    known = anchors("docs/operating.md")
    for rule in rules():
        name = rule["alert"]
        check(rule["labels"]["severity"] in ("critical", "warning"), f"{name}: severity")
        check(rule["annotations"]["summary"], f"{name}: summary")
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        check(page == "docs/operating.md" and anchor in known, f"{name}: no runbook {page}#{anchor}")
        check(f"- name: {name} fires" in text("deploy/prometheus/trex.test.yaml"), f"{name}: never fires")
        check(f"- name: {name} is silent" in text("deploy/prometheus/trex.test.yaml"), f"{name}: never silent")


def metrics():
    known = declared()
    for where, expression in expressions():
        check(not metrics_of(expression) - known, f"{where}: unknown {metrics_of(expression) - known}")
    named = set()
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        # A metric in the prose stands in backquotes, alone or with its labels; `hub_controller_*` is a family.
        for name in re.findall(r"`((?:hub|grpc|process)_[a-z_]+)(?:\{[a-z_,]+\})?`", page.read_text()):
            # A role of the examples, not a metric.
            if name != "hub_role":
                named.add(name)
                check(name in known, f"{page.name}: there is no metric {name}")
    check(len(named) > 30, f"only {len(named)} metrics are documented")
    ids = [panel["id"] for panel in panels()]
    check(len(ids) == len(set(ids)), "two panels have one id")


def compose():
    services = yaml.safe_load(text("docker-compose.yml"))["services"]
    volumes = yaml.safe_load(text("docker-compose.yml"))["volumes"]
    for name, service in services.items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            there = (ROOT / source).exists() if source.startswith("./") else source in volumes
            check(there, f"{name}: {source} is not there")
        for port in service.get("ports", []):
            check(port.startswith("127.0.0.1:"), f"{name}: {port} is open to other machines")
        for needed in service.get("depends_on", []):
            check(needed in services, f"{name}: needs {needed}")
    mounted = {mount.split(":")[1] for mount in services["grafana"]["volumes"]}
    provider = yaml.safe_load(text("deploy/grafana/provisioning/dashboards/trex.yaml"))["providers"][0]
    check(f"{provider['options']['path']}/trex.json" in mounted, "Grafana does not find the dashboard")
    source = yaml.safe_load(text("deploy/grafana/provisioning/datasources/trex.yaml"))["datasources"][0]
    check(source["url"] == "http://prometheus:9090" and "prometheus" in services, "Grafana has no Prometheus")
    scrape = yaml.safe_load(text("deploy/prometheus/prometheus.yaml"))["scrape_configs"][0]
    check(scrape["job_name"] == "trex", "the alerts ask for job trex")
    check(scrape["static_configs"][0]["targets"] == ["hub:8080"] and "hub" in services, "Prometheus has no hub")


# The fields of the Prometheus operator that we use, so that none is misspelt: its own schema is in no package.
MONITOR = {"jobLabel", "selector", "endpoints", "namespaceSelector"}
ENDPOINT = {"port", "path", "interval", "scrapeTimeout", "scheme"}


def restricted(pod):
    """The restricted profile of Pod Security."""
    context = pod["securityContext"]
    check(context["runAsNonRoot"] is True, "the Pod may be root")
    check(context["seccompProfile"]["type"] == "RuntimeDefault", "the Pod has no seccomp profile")
    for container in pod["containers"]:
        own = container["securityContext"]
        check(own["allowPrivilegeEscalation"] is False, "the container may gain privileges")
        check(own["capabilities"] == {"drop": ["ALL"]}, "the container keeps capabilities")
        check(own["readOnlyRootFilesystem"] is True, "the container may write its image")


def kubernetes():
    documents = []
    for file in sorted((ROOT / "deploy/kubernetes").glob("*.yaml")):
        documents += yaml.safe_load_all(file.read_text())
    kinds = {}
    for document in documents:
        kind = document["kind"]
        kinds[kind] = document
        if kind == "ServiceMonitor":
            spec = document["spec"]
            check(set(spec) <= MONITOR, f"ServiceMonitor: {set(spec) - MONITOR}")
            for endpoint in spec["endpoints"]:
                check(set(endpoint) <= ENDPOINT, f"ServiceMonitor: {set(endpoint) - ENDPOINT}")
            continue
        try:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            check(False, f"{kind}: {error}")
    pod = kinds["Deployment"]["spec"]["template"]
    restricted(pod["spec"])
    labels = pod["metadata"]["labels"].items()
    selectors = {
        "Deployment": kinds["Deployment"]["spec"]["selector"]["matchLabels"],
        "Service": kinds["Service"]["spec"]["selector"],
        "PodDisruptionBudget": kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        "NetworkPolicy": kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    }
    for kind, selector in selectors.items():
        check(selector.items() <= labels, f"{kind} selects no Pod of ours")
    ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    served = kinds["Service"]["spec"]["ports"]
    check({port["targetPort"] for port in served} <= ports, "the Service names a port that is not there")
    monitored = {endpoint["port"] for endpoint in kinds["ServiceMonitor"]["spec"]["endpoints"]}
    check(monitored <= {port["name"] for port in served}, "ServiceMonitor: no such port")
    for kind, name in (("ConfigMap", "trex"), ("Secret", "trex"), ("ServiceAccount", "trex")):
        check(kinds[kind]["metadata"]["name"] == name, f"{kind} has another name")
    check(kinds["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "trex", "nothing is scaled")
    for metric in kinds["HorizontalPodAutoscaler"]["spec"]["metrics"]:
        check(metric["pods"]["metric"]["name"] in declared(), "the autoscaler's metric does not exist")


def systemd():
    """What systemd itself finds, where it is installed."""
    tool = shutil.which("systemd-analyze")
    unit = ROOT / "deploy/systemd/trex.service"
    if tool is None:
        return
    # A threshold of 2.0 is what the unit has, with air: 0 is closed, 10 is open.
    scored = subprocess.run(
        [tool, "security", "--offline=true", "--no-pager", "--threshold=20", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    check(scored.returncode == 0, f"systemd-analyze security: {scored.stdout[-300:]}{scored.stderr}")
    found = subprocess.run([tool, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    # That the program is not installed here is no fault of the unit.
    lines = [line for line in found.stderr.splitlines() if "/usr/bin/trex is not executable" not in line]
    check(not [line for line in lines if "trex.service" in line], f"systemd-analyze verify: {lines}")


CHECKS = [alerts, metrics, compose, kubernetes, systemd]

if __name__ == "__main__":
    for each in CHECKS:
        before = len(FAULTS)
        each()
        print("ok " if len(FAULTS) == before else "FAILED ", each.__name__, sep=" ")
    for fault in FAULTS:
        print(f"  {fault}", file=sys.stderr)
    print(f"{len(CHECKS)} looked at, {len(FAULTS)} faults")
    sys.exit(bool(FAULTS))
