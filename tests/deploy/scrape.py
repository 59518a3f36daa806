"""A real Prometheus scrapes a hub under load: every panel has data, and an alert comes with its fault and goes with it."""

import contextlib
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

import yaml

from named import PROCESS, ROOT, RULES, metrics_of, panels, rules

PATIENCE = 45


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def until(what, condition):
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError):
            if found := condition():
                return found
        if time.monotonic() > deadline:
            sys.exit(f"FAILED  {what} within {PATIENCE} s")
        time.sleep(0.2)


def get(url):
    # Never through a proxy of the machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=5) as answer:
        return answer.read().decode()


class Hub:
    """With a Postgres of its own, and an audit trail, so that a controller runs."""

    def __init__(self, binary, work, started):
        # A copy that any user may run, as the embedded Postgres is another one's.
        self.binary = shutil.copy(binary, work / "trex")
        self.grpc, admin, api, self.metrics, self.health = free_ports(5)
        self.log = work / "hub.log"
        command = [self.binary, "serve", "--data-dir", work / "data", "--audit", "--inspection-interval=1s"]
        ports = {"grpc": self.grpc, "admin": admin, "api": api, "metrics": self.metrics, "health-check": self.health}
        command += [f"--{name}-server-bindaddress=localhost:{port}" for name, port in ports.items()]
        started(command, stdout=self.log.open("w"), stderr=(work / "hub.err").open("w"))
        until("the hub is ready", lambda: "ready" in get(f"http://localhost:{self.health}/readyz"))
        line = re.search(r"^ *(psql '.*?')", self.log.read_text(), re.M).group(1)
        self.psql = [*shlex.split(line), "-X", "-q", "-v", "ON_ERROR_STOP=1"]
        self.at = f"http://localhost:{self.grpc}"

    def sql(self, statement):
        subprocess.run([*self.psql, "-c", statement], check=True, cwd="/", stdout=subprocess.DEVNULL)

    def call(self, method, body=b""):
        """A unary call, spelt by hand, so that no gRPC library is needed."""
        frame = b"\0" + len(body).to_bytes(4, "big") + body
        subprocess.run(
            ["curl", "-sS", "--noproxy", "*", "--http2-prior-knowledge", "--max-time", "5", "--data-binary", "@-"]
            + ["-H", "content-type: application/grpc", "-H", "te: trailers", f"{self.at}/{method}"],
            input=frame,
            stdout=subprocess.DEVNULL,
            check=True,
        )

    def load(self, work, round_):
        """A little of everything that has a metric."""
        self.sql("INSERT INTO dinosaurs(species) SELECT 'load' FROM generate_series(1, 200)")
        self.call("rh_trex.v1.DinosaurService/ListDinosaurs")
        self.call("rh_trex.v1.DinosaurService/GetDinosaur")  # without an id: InvalidArgument
        items = work / f"items-{round_}.ndjson"
        items.write_text('{"species":"import"}\n' * 20 + '{"species":""}\n')
        # Exit code 3: the last line was refused.
        imported = [self.binary, "import", "--server", self.at, str(items)]
        subprocess.run(imported, capture_output=True, check=False, timeout=30)


class Prometheus:
    def __init__(self, work, target, started):
        port = free_ports(1)[0]
        self.at = f"http://localhost:{port}"
        scrape = {"job_name": "trex", "static_configs": [{"targets": [f"localhost:{target}"]}]}
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [scrape],
        }
        (work / "prometheus.yaml").write_text(yaml.safe_dump(config))
        command = ["prometheus", f"--config.file={work}/prometheus.yaml", f"--storage.tsdb.path={work}/tsdb"]
        started([*command, f"--web.listen-address=localhost:{port}"], stderr=(work / "prometheus.err").open("w"))
        until("Prometheus is ready", lambda: get(f"{self.at}/-/ready"))

    def ask(self, path):
        return json.loads(get(f"{self.at}/api/v1/{path}"))["data"]

    def series(self, expression):
        return self.ask("query?" + urllib.parse.urlencode({"query": expression}))["result"]

    def firing(self):
        return {each["labels"]["alertname"] for each in self.ask("alerts")["alerts"] if each["state"] == "firing"}


def as_asked(expression, instance):
    """As Grafana would send it."""
    for name, value in {"$__rate_interval": "1m", "$job": "trex", "$instance": instance}.items():
        expression = expression.replace(name, value)
    return expression


def every_panel_has_data(prometheus, instance):
    asked = [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]
    empty = lambda: [f"{title}: {e}" for title, e in asked if not prometheus.series(as_asked(e, instance))]
    deadline = time.monotonic() + PATIENCE
    while missing := empty():
        if time.monotonic() > deadline:
            sys.exit("FAILED  panels without data:\n" + "\n".join(missing))
        time.sleep(1)
    print(f"ok  {len(asked)} expressions of {len(panels())} panels have data")


def the_text_is_well_formed(hub):
    text = get(f"http://localhost:{hub.metrics}/metrics")
    lint = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    # 3 is lint's: the published names of the API are as they are, but nothing may be unreadable.
    if lint.returncode not in (0, 3):
        sys.exit(f"FAILED  promtool check metrics: {lint.stderr}")
    served = set(re.findall(r"^# TYPE (\S+)", text, re.M))
    absent = {name for rule in rules() for name in metrics_of(rule["expr"])} - served
    absent |= {name for panel in panels() for each in panel["targets"] for name in metrics_of(each["expr"])} - served
    if absent - {"up"} or not PROCESS <= served:
        sys.exit(f"FAILED  not on /metrics: {absent | (PROCESS - served)}")
    print(f"ok  {len(served)} metrics are served, among them all that rules and panels ask for")


def an_alert_comes_and_goes(hub, prometheus):
    if prometheus.firing():
        sys.exit(f"FAILED  alerts without a fault: {prometheus.firing()}")
    hub.sql('ALTER TABLE dinosaurs DISABLE TRIGGER "!trex_insert"')
    until("TrexCaptureBroken fires", lambda: prometheus.firing() == {"TrexCaptureBroken"})
    # As its runbook says.
    subprocess.run([hub.binary, "migrate", "--dinosaurs", "--database-url", hub.psql[1]], check=True, stdout=subprocess.DEVNULL)
    until("TrexCaptureBroken is over", lambda: not prometheus.firing())
    print("ok  a disabled trigger fires TrexCaptureBroken, and nothing else; mended, it is over")


def main():
    binary = sys.argv[1]
    work = pathlib.Path(tempfile.mkdtemp(prefix="trex-deploy."))
    work.chmod(0o755)
    running = []

    def started(command, **files):
        # A session of its own: an interrupt of this script reaches none of them before they are ended in order.
        running.append(subprocess.Popen(command, cwd="/", start_new_session=True, **files))
        return running[-1]

    for name in [name for name in os.environ if name.startswith(("TREX_", "PG")) or name == "DATABASE_URL"]:
        del os.environ[name]
    try:
        hub = Hub(binary, work, started)
        prometheus = Prometheus(work, hub.metrics, started)
        watch = started([hub.binary, "watch", "--server", hub.at], stdout=subprocess.DEVNULL)
        # A counter's rate needs a sample before it rises.
        until("a first scrape", lambda: prometheus.series("hub_build_info"))
        for round_ in range(3):
            hub.load(work, round_)
            time.sleep(1)  # the next scrape is another sample
        watch.send_signal(signal.SIGINT)
        the_text_is_well_formed(hub)
        every_panel_has_data(prometheus, f"localhost:{hub.metrics}")
        an_alert_comes_and_goes(hub, prometheus)
    finally:
        for process in reversed(running):
            process.terminate()
        for process in reversed(running):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("FAILED  asked to stop"))
    main()
