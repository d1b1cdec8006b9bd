"""Metrics, status, log and notification: the last finished cycle, told truthfully."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fakes.host import FakeDomain, FakeHost
from fakes.ports import ListInbox, MemoryLedger, SimulatedClock
from vcpud.control import ControlLoop
from vcpud.limits import Limits
from vcpud.metrics import Metrics
from vcpud.model import Mode, Terms
from vcpud.notify import Notifier
from vcpud.ports import Recorder
from vcpud.requests import LoopSettings
from vcpud.status import LatestCycle, table
from vcpud.units import NS_PER_S
from vcpud_policies.spin_feedback import SpinFeedback

ENFORCE = Terms(mode=Mode.ENFORCE)


def run(recorder: Recorder, seconds: int = 20) -> tuple[FakeHost, ControlLoop]:
    """A pair that collapses and recovers, told to one recorder."""
    clock = SimulatedClock()
    host = FakeHost(
        FakeDomain(name="a", vcpus=4, lock_bound=True, terms=ENFORCE),
        FakeDomain(name="b", vcpus=4, lock_bound=True, terms=ENFORCE),
        clock=clock,
    )
    loop = ControlLoop(
        clock=clock,
        hypervisor=host,
        ledger=MemoryLedger(),
        inbox=ListInbox(),
        recorder=recorder,
        settings=LoopSettings(
            period_ns=NS_PER_S,
            policy=SpinFeedback(),
            policy_name="spin_feedback",
            limits=Limits(),
        ),
    )
    for _ in range(seconds):
        cycle(clock, loop)
    return host, loop


def cycle(clock: SimulatedClock, loop: ControlLoop) -> None:
    deadline_ns = clock.now_ns() + NS_PER_S
    while clock.now_ns() < deadline_ns:
        clock.wait_until(deadline_ns)
    loop.cycle()


def scraped(metrics: Metrics) -> dict[tuple[str, ...], float]:
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            labels = [f"{key}={value}" for key, value in sorted(sample.labels.items())]
            found[(sample.name, *labels)] = sample.value
    return found


def test_metrics_show_the_recovery() -> None:
    metrics = Metrics("digest")
    run(metrics)
    found = scraped(metrics)
    assert found["vcpud_up",] == 1
    assert found["vcpud_domain_vcpus", "domain=a", "kind=active"] == 1
    assert found["vcpud_domain_vcpus", "domain=a", "kind=original"] == 4
    assert found["vcpud_outcomes_total", "result=helped"] == 2
    assert found["vcpud_host_overcommit_ratio", "pool=host"] == pytest.approx(1, abs=0.3)


def test_series_of_departed_domains_disappear() -> None:
    metrics = Metrics("digest")
    host, loop = run(metrics)
    departed = next(domain for domain in host.domains.values() if domain.name == "a")
    host.destroy(departed)
    cycle(host.simulated, loop)
    assert not [key for key in scraped(metrics) if "domain=a" in key]


def test_no_metric_is_named_in_percent_or_without_the_prefix() -> None:
    metrics = Metrics("digest")
    run(metrics)
    for family in text_string_to_metric_families(metrics.render().decode()):
        assert family.name.startswith(("vcpud_", "process_"))
        assert "percent" not in family.name
        assert family.documentation


def test_status_is_plain_data_and_a_table() -> None:
    latest = LatestCycle()
    host, _ = run(latest)
    shown = json.loads(json.dumps(latest.document(host.simulated.now_ns())))
    domain = shown["domains"][0]
    assert domain["name"] == "a"
    assert len(shown["outstanding"]) == 2
    text = table(shown)
    assert "a " in text
    assert "helped" in text


@pytest.mark.sockets
def test_systemd_is_told_ready_once_and_fed_by_every_cycle(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(path))
        ear.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "30000000"})
        run(notifier, seconds=3)
        told = [ear.recv(4096).decode() for _ in range(3)]
        notifier.stopping()
        assert "STOPPING=1" in ear.recv(4096).decode()
        closing = threading.Thread(target=notifier.close)
        closing.start()
        message, fds, _, _ = socket.recv_fds(ear, 4096, 1)
        assert message == b"BARRIER=1"
        assert closing.is_alive(), "it waits until everything it said was heard"
        os.close(fds[0])
        closing.join(5)
        assert not closing.is_alive()
    assert "READY=1" in told[0]
    assert sum("READY=1" in one for one in told) == 1
    assert all("WATCHDOG=1" in one for one in told)
