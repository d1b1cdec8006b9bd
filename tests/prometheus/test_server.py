"""A real Prometheus scrapes running daemons; every query that is shipped returns data."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from fakes.crowd import crowd
from fakes.runs import writer
from vcpud.counters import VcpuCounters
from vcpud.demand import HostDemand
from vcpud.model import Trouble
from vcpud.plan import Plan
from vcpud.record import CycleRecord
from vcpud.units import NS_PER_S

pytestmark = [
    pytest.mark.prometheus,
    pytest.mark.process,
    pytest.mark.sockets,
    pytest.mark.slow,
    pytest.mark.timeout(240),
]

CHECKOUT = Path(__file__).resolve().parents[2]
DEPLOY = CHECKOUT / "deploy"
RANGE = "10s"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Process:
    """A program of ours, ended by its own id."""

    def __init__(self, folder: Path, name: str, *words: object) -> None:
        self.log = folder / f"{name}.log"
        self._stream = self.log.open("ab")
        self._process = subprocess.Popen(
            [str(word) for word in words], stdout=self._stream, stderr=self._stream
        )

    def wait(self, reached: Callable[[], bool], within_s: float = 60) -> None:
        deadline_s = time.monotonic() + within_s
        while not reached():
            assert self._process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < deadline_s, self.log.read_text()[-4000:]
            time.sleep(0.2)

    def await_start(self, reached: Callable[[], bool]) -> None:
        """Wait for the constructor: where it fails, nobody else would end the program."""
        try:
            self.wait(reached)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stream.close()


def fetched(url: str) -> bytes | None:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  our own loopback
            text: bytes = answer.read()
            return text
    except OSError:
        return None


class Vcpud(Process):
    """A daemon with folders and a port of its own."""

    def __init__(self, folder: Path, name: str, backend: str) -> None:
        self.port = free_port()
        home = folder / name
        for part in ("state", "run"):
            (home / part).mkdir(parents=True, mode=0o700)
        self.config = home / "vcpud.yaml"
        self.config.write_text(
            json.dumps(
                {
                    "backend": backend,
                    "period": "1s",
                    "policy": {"name": "spin_feedback"},
                    "defaults": {"mode": "enforce"},
                    "state_dir": str(home / "state"),
                    "runtime_dir": str(home / "run"),
                    "metrics": {"listen": f"127.0.0.1:{self.port}"},
                }
            )
        )
        self.config.chmod(0o600)
        program = (sys.executable, "-m", "vcpud", "--config", self.config)
        super().__init__(folder, name, *program, "run")
        self._program = program
        self.await_start(lambda: fetched(f"http://127.0.0.1:{self.port}/ready") is not None)

    def ask(self, *words: str) -> None:
        subprocess.run([*map(str, self._program), *words], check=True, capture_output=True)


class Prometheus(Process):
    """A server with everything that is shipped, but for its pace and the ports."""

    def __init__(self, folder: Path, program: str, ports: list[int]) -> None:
        shipped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        shipped["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        shipped["rule_files"] = [str(DEPLOY / "prometheus" / one) for one in shipped["rule_files"]]
        (scrape,) = shipped["scrape_configs"]
        scrape["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
        config = folder / "prometheus.yml"
        config.write_text(yaml.safe_dump(shipped))
        self.url = f"http://127.0.0.1:{free_port()}"
        self.began_s = time.time()
        super().__init__(
            folder,
            "prometheus",
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        )
        self.await_start(lambda: fetched(f"{self.url}/-/ready") is not None)

    def api(self, path: str, **words: object) -> Any:
        with urllib.request.urlopen(  # noqa: S310  our own loopback
            f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(words)}", timeout=20
        ) as answer:
            return json.load(answer)["data"]

    def data(self, query: str) -> list[Any]:
        """Every series that the query returned at any time since the start."""
        query = query.replace("$__rate_interval", RANGE).replace('"$job"', '"vcpud"')
        query = re.sub(r'"\$(instance|domain)"', '".*"', query)
        found: list[Any] = self.api(
            "query_range", query=query, start=self.began_s, end=time.time(), step=1
        )["result"]
        return found

    def without_data(self, queries: list[str], within_s: float = 60) -> list[str]:
        """Queries that still have returned nothing after this time."""
        deadline_s = time.monotonic() + within_s
        missing = [query for query in queries if not self.data(query)]
        while missing and time.monotonic() < deadline_s:
            time.sleep(1)
            missing = [query for query in missing if not self.data(query)]
        return missing


def troubled(folder: Path) -> Path:
    """A recording of a small crowd in which not everything is well, and one wait is estimated, as on Xen."""
    out = writer(folder)
    nothing = HostDemand(window_ns=0, pools=(), domains=())
    for number, sample in enumerate(crowd(8, 120)):
        hung = dataclasses.replace(
            sample.domains[0], troubles=frozenset({Trouble.HUNG, Trouble.JOB})
        )
        error_ns = (number + 1) * NS_PER_S // 100
        unsure = dataclasses.replace(
            sample.domains[1],
            vcpus=VcpuCounters.of(
                dataclasses.replace(vcpu, run_delay_error_ns=error_ns)
                for vcpu in sample.domains[1].vcpus
            ),
        )
        out.record(
            CycleRecord(
                cycle=number + 1,
                began_ns=sample.taken_at_ns,
                ended_ns=sample.taken_at_ns + NS_PER_S // 1000,
                period_ns=NS_PER_S,
                policy_name="static",
                sample=dataclasses.replace(sample, domains=(hung, unsure, *sample.domains[2:])),
                demand=nothing,
                proposed=Plan(),
            )
        )
    out.close()
    return folder


@pytest.fixture(scope="module")
def server(prometheus: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    with ExitStack() as stack:
        recording = troubled(folder / "recording")
        simulated = Vcpud(folder, "simulated", "simulated")
        stack.callback(simulated.close)
        replayed = Vcpud(folder, "replayed", f"replay:{recording},speed=1,rounds=50")
        stack.callback(replayed.close)
        made = Prometheus(folder, prometheus, [simulated.port, replayed.port])
        stack.callback(made.close)
        # Something shrinks, is judged, is given back on request, and shrinks again.
        helped = 'vcpud_outcomes_total{result="helped"} > 0'
        made.wait(lambda: bool(made.data(helped)), within_s=90)
        simulated.ask("pause", "--restore")
        made.wait(lambda: bool(made.data('vcpud_domain_changes_total{direction="grow"} > 0')))
        simulated.ask("resume")
        made.wait(lambda: bool(made.data("increase(vcpud_requests_total[10s]) > 0")))
        yield made


def shipped_queries() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana" / "vcpud.json").read_text())
    panels = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())
    ]
    notes = [one["expr"] for one in dashboard["annotations"]["list"]]
    # A rollback cannot be had on demand: it is for its metric to be there.
    notes = [query for query in notes if "rollbacks" not in query]
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
    recorded = [rule["record"] for group in rules["groups"] for rule in group["rules"]]
    return panels + notes + recorded


def test_every_target_is_up_and_every_rule_is_well(server: Prometheus) -> None:
    targets = server.api("targets")["activeTargets"]
    assert [one["health"] for one in targets] == ["up", "up"], targets
    rules = [rule for group in server.api("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == 27
    assert {(rule["health"], rule.get("lastError", "")) for rule in rules} == {("ok", "")}


def test_every_query_of_the_dashboard_and_of_the_rules_returns_data(server: Prometheus) -> None:
    assert not server.without_data(shipped_queries())
    assert not server.data("vcpud_no_such_metric"), "a query without data must be noticed"


def test_everything_an_alert_looks_at_is_there(server: Prometheus) -> None:
    alerts = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    names: list[str] = []
    for group in alerts["groups"]:
        for rule in group["rules"]:
            looked_at = re.findall(r"[a-z_0-9]*:?vcpud_[\w:]+|\bup\b", rule["expr"])
            assert looked_at, rule["alert"]
            names += looked_at
    assert not server.without_data(names)


def test_no_alert_of_the_daemon_itself_fires_while_it_is_well(server: Prometheus) -> None:
    firing = {
        one["labels"]["alertname"]
        for one in server.api("alerts")["alerts"]
        if one["state"] == "firing"
    }
    assert firing <= {"VcpudDomainQuarantined"}


def test_variables_of_the_dashboard_have_values(server: Prometheus) -> None:
    assert server.data("vcpud_up")
    names = {one["metric"]["domain"] for one in server.data("vcpud_domain_info")}
    assert len(names) > 2
