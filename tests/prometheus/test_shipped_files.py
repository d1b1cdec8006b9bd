"""Rules, alerts and dashboard by themselves: valid, complete, each with its page in the runbook."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from fakes.runs import Kept, collapse
from vcpud.metrics import Metrics
from vcpud.metrics.catalogue import CATALOGUE

CHECKOUT = Path(__file__).resolve().parents[2]
DEPLOY = CHECKOUT / "deploy" / "prometheus"
DASHBOARD = CHECKOUT / "deploy" / "grafana" / "vcpud.json"
RUNBOOK = "file:///usr/share/doc/vcpud/docs/runbook.md"
"""Where the package puts it; `tests/packaging` holds that it is there."""
CASES = [Path(__file__).with_name(f"{name}.yml") for name in ("alerts_test", "alerts_slow_test")]


def rules(name: str) -> list[dict[str, Any]]:
    document = yaml.safe_load((DEPLOY / name).read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return document


def expressions() -> str:
    shown = [
        target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())
    ]
    shown += [rule["expr"] for name in ("rules.yml", "alerts.yml") for rule in rules(name)]
    return "\n".join(shown)


def run(*words: object) -> str:
    done = subprocess.run(
        [str(word) for word in words], check=False, capture_output=True, text=True, cwd=CHECKOUT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.prometheus
def test_promtool_accepts_rules_and_configuration(promtool: str) -> None:
    run(promtool, "check", "rules", "--lint-fatal", DEPLOY / "rules.yml", DEPLOY / "alerts.yml")
    run(promtool, "check", "config", "--lint-fatal", DEPLOY / "prometheus.yml")


@pytest.mark.prometheus
def test_promtool_accepts_the_metrics(promtool: str) -> None:
    metrics = Metrics("digest", "fake")
    collapse(Kept(metrics), 30)
    done = subprocess.run(
        [promtool, "check", "metrics"], input=metrics.render(), check=False, capture_output=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stdout
    assert not done.stderr


@pytest.mark.prometheus
@pytest.mark.slow
def test_every_alert_fires_where_it_should_and_nowhere_else(promtool: str) -> None:
    shown = run(promtool, "test", "rules", *CASES)
    assert shown.count("SUCCESS") == len(CASES)


def test_every_alert_has_a_firing_and_a_silent_case() -> None:
    cases: dict[str, set[bool]] = {}
    for file in CASES:
        for case in yaml.safe_load(file.read_text())["tests"]:
            for one in case.get("alert_rule_test", ()):
                cases.setdefault(one["alertname"], set()).add(bool(one["exp_alerts"]))
    assert cases == {rule["alert"]: {True, False} for rule in rules("alerts.yml")}


def test_every_alert_has_its_page_in_the_runbook() -> None:
    runbook = (CHECKOUT / "docs" / "runbook.md").read_text()
    pages = set(re.findall(r"^## (\w+)$", runbook, re.MULTILINE))
    alerts = {rule["alert"]: rule for rule in rules("alerts.yml")}
    assert pages >= set(alerts)
    for name, rule in alerts.items():
        assert rule["annotations"]["runbook_url"] == f"{RUNBOOK}#{name.lower()}"
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_every_alert_is_in_the_table_of_alerts() -> None:
    table = (CHECKOUT / "docs" / "alerts.md").read_text()
    for rule in rules("alerts.yml"):
        (line,) = [line for line in table.splitlines() if f"[{rule['alert']}]" in line]
        assert f"| {rule['labels']['severity']} |" in line
        assert f"| {rule.get('for', 'at once')} |" in line


def test_every_metric_is_in_the_docs_and_shown_or_watched() -> None:
    documented = (CHECKOUT / "docs" / "metrics.md").read_text()
    used = set(re.findall(r"\bvcpud_\w+", expressions()))
    for family in CATALOGUE:
        assert f"`{family.name}`" in documented
        names = {family.name}
        if family.kind == "histogram":
            names = {f"{family.name}_bucket", f"{family.name}_sum"}
        assert names & used, f"{family.name} is on no panel and in no rule"


def test_no_query_asks_for_a_metric_that_is_not_there() -> None:
    known = {family.name for family in CATALOGUE}
    known |= {
        f"{family.name}_{end}"
        for family in CATALOGUE
        if family.kind == "histogram"
        for end in ("bucket", "sum", "count")
    }
    recorded = {rule["record"] for rule in rules("rules.yml")}
    text = re.sub(r'"[^"]*"', '""', expressions())
    for name in recorded:
        text = re.sub(rf"{name}\b", "", text)
    assert set(re.findall(r"\bvcpud_\w+", text)) <= known


def test_the_dashboard_can_be_taken_to_any_data_source() -> None:
    document = dashboard()
    names = [one["name"] for one in document["templating"]["list"]]
    assert names == ["datasource", "job", "instance", "domain"]
    ids = [panel["id"] for panel in document["panels"]]
    assert len(ids) == len(set(ids))
    for panel in document["panels"]:
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"
            if "process_" not in target["expr"]:
                assert 'job="$job"' in target["expr"]
    assert document["annotations"]["list"][0]["name"] == "Changes of vCPUs"


def test_panels_do_not_lie_on_one_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken
        taken |= cells
