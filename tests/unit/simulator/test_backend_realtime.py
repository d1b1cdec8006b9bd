"""The simulated host in step with the wall clock, and the daemon on it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vcpud import cli
from vcpud.backend import BackendOptions, open_backend
from vcpud.clock import Interruptible
from vcpud.errors import ConfigError
from vcpud.ledger import FileLedger
from vcpud.model import Mode, Terms
from vcpud.ports import Wake
from vcpud.terms import TermsBook
from vcpud_simulator.backend import PacedClock, SimulatedBackend
from vcpud_simulator.hypervisor import SimulatedClock, SimulatedHypervisor
from vcpud_simulator.scenario import DomainPlan, Scenario
from vcpud_simulator.workloads.gobmk import GobmkLike
from vcpud_simulator.world import World

MS = 1_000_000
S = 1_000_000_000


class Wall:
    """A wall clock: simulating costs time on it, and sleeping lets it pass."""

    def __init__(self) -> None:
        self.ns = 5 * S
        self.slept: list[float] = []

    def now_ns(self) -> int:
        return self.ns

    def sleep(self, duration_s: float) -> None:
        self.slept.append(duration_s)
        self.ns += round(duration_s * S)


class Costly(SimulatedClock):
    """A simulated clock on a machine that needs so much real time for simulated time."""

    def __init__(self, hypervisor: SimulatedHypervisor, wall: Wall, cost: float) -> None:
        super().__init__(hypervisor)
        self.wall, self.cost = wall, cost

    def wait_until(self, deadline_ns: int) -> Wake:
        before_ns = self.now_ns()
        wake = super().wait_until(deadline_ns)
        self.wall.ns += round((self.now_ns() - before_ns) * self.cost)
        return wake


@pytest.fixture
def paced() -> Callable[[float], tuple[PacedClock, Wall, Costly, SimulatedHypervisor]]:
    def make(cost: float) -> tuple[PacedClock, Wall, Costly, SimulatedHypervisor]:
        plan = DomainPlan(name="a", vcpus=2, workload=GobmkLike(), arrives_ns=1500 * MS)
        hypervisor = SimulatedHypervisor(World(Scenario(name="s", pcpus=2, domains=(plan,))))
        wall = Wall()
        inner = Costly(hypervisor, wall, cost)
        clock = PacedClock(inner, now_ns=wall.now_ns, sleep=wall.sleep)
        return clock, wall, inner, hypervisor

    return make


Make = Callable[[float], tuple[PacedClock, Wall, Costly, SimulatedHypervisor]]


def test_it_never_runs_ahead_of_the_wall_clock(paced: Make) -> None:
    clock, wall, _, _ = paced(0.3)
    assert clock.wait_until(S) is Wake.TIMER
    assert (clock.now_ns(), wall.ns) == (S, 6 * S)
    assert sum(wall.slept) == pytest.approx(0.7, abs=0.01)
    assert clock.slowness == 1


def test_what_is_worth_an_early_cycle_ends_the_wait(paced: Make) -> None:
    clock, _, _, _ = paced(0.1)
    assert clock.wait_until(S) is Wake.TIMER
    assert clock.wait_until(3 * S) is Wake.EVENT
    assert 1500 * MS <= clock.now_ns() <= 1520 * MS


@pytest.mark.parametrize(("cost", "slowness"), [(1.0, 1), (1.5, 2), (2.5, 4), (7, 8)])
def test_where_the_machine_is_too_slow_it_falls_behind_and_says_by_how_much(
    paced: Make, cost: float, slowness: int
) -> None:
    clock, wall, _, _ = paced(cost)
    for second in range(2, 9):
        clock.wait_until(second * S)
    assert wall.ns - 5 * S == pytest.approx(clock.now_ns() * cost, rel=0.01)
    assert clock.slowness == slowness
    assert not [slept for slept in wall.slept if slept > 0.001]


def test_what_was_lost_is_not_made_up_for(paced: Make) -> None:
    clock, wall, inner, _ = paced(4)
    clock.wait_until(1400 * MS)
    inner.cost = 0.1
    before_ns = wall.ns
    clock.wait_until(1500 * MS)
    clock.wait_until(2500 * MS)
    assert wall.ns - before_ns >= clock.now_ns() - 1400 * MS - 30 * MS
    for second in range(3, 30):
        clock.wait_until(second * S)
    assert clock.slowness == 1, "after a while in step it is no longer called slow"


def test_a_stop_or_a_request_is_heard_within_a_tenth_of_a_second(paced: Make) -> None:
    paced_clock, wall, _, _ = paced(0.1)
    clock = Interruptible(paced_clock)
    clock.wake()
    assert clock.wait_until(S) is Wake.EVENT
    slept = wall.sleep
    stopped_at: list[int] = []

    def sleep_and_be_told(duration_s: float) -> None:
        slept(duration_s)
        if paced_clock.now_ns() >= 300 * MS and not stopped_at:
            stopped_at.append(paced_clock.now_ns())
            clock.stop()

    paced_clock._sleep = sleep_and_be_told
    assert clock.wait_until(S) is Wake.STOP
    assert paced_clock.now_ns() - stopped_at[0] <= 100 * MS
    assert clock.wait_until(S) is Wake.TIMER


@pytest.fixture
def options() -> BackendOptions:
    return BackendOptions(
        terms=TermsBook(), writable=True, now_ns=lambda: 0, wake=lambda: None, period_ns=S
    )


def test_the_default_scenario_is_the_collapse_of_two_domains(options: BackendOptions) -> None:
    opened = open_backend("simulated", options)
    sample = opened.hypervisor.sample()
    assert [domain.terms.mode for domain in sample.domains] == [Mode.ENFORCE] * 2
    assert sample.notes[0] == ("a simulated host (kernel_lock): no real domain is seen or changed")
    opened.adopt(TermsBook(default=Terms(mode=Mode.OFF), metadata=False))
    assert [one.terms.mode for one in opened.hypervisor.sample().domains] == [Mode.OFF] * 2
    again = open_backend("simulated", options).hypervisor.sample()
    assert again.boot_id != sample.boot_id, "a new host owes nothing to an earlier one"
    opened.close()


def test_a_scenario_can_be_named(options: BackendOptions, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("pcpus: 1\ndomains: {x: {vcpus: 3, workload: gobmk}}")
    sample = open_backend(f"simulated:{path}", options).hypervisor.sample()
    assert [(one.name, one.max_vcpus) for one in sample.domains] == [("x", 3)]
    with pytest.raises(ConfigError, match="there is no scenario"):
        open_backend("simulated:nope", options)


def test_a_host_that_runs_for_days_keeps_no_response_times(
    options: BackendOptions, tmp_path: Path
) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(
        "pcpus: 1\ndomains: {x: {vcpus: 1, workload: {kind: web, requests_per_s: 50}}}"
    )
    opened = SimulatedBackend(replace(options, argument=str(path)))
    hypervisor = opened.hypervisor
    assert isinstance(hypervisor, SimulatedHypervisor)
    world = hypervisor.world
    kept = world.residents["x"].inhabitant.progress.responses_ns
    world.engine.run_until(59 * S)
    assert len(kept) > 1_000
    world.engine.run_until(61 * S)
    assert len(kept) < 200


def test_a_dry_run_says_what_it_would_do_and_does_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    config = tmp_path / "vcpud.yaml"
    config.write_text("policy: {name: spin_feedback}\n")
    code = cli.main(
        ["dry-run", "--config", str(config), "--backend", "simulated", "--cycles", "4"]
    )
    said = capsys.readouterr().out
    assert code == 0
    assert "db: would go from 4 to 1 active vCPUs (guest_agent)" in said
    assert said.strip().endswith("nothing was changed")


def wait_for(what: Callable[[], object], within_s: float = 30) -> object:
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        found = what()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("it never happened")


@pytest.fixture
def port() -> int:
    """One that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
    return found


@pytest.fixture
def daemon(tmp_path: Path, port: int) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    config = tmp_path / "vcpud.yaml"
    config.write_text(
        f"metrics: {{listen: '127.0.0.1:{port}'}}\npolicy: {{name: spin_feedback}}\n"
        f"state_dir: {tmp_path}/state\nruntime_dir: {tmp_path}/run\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "vcpud", "run", "--config", str(config), "--backend", "simulated"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        yield process, config
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.sockets
def test_an_ordinary_user_can_run_the_daemon_on_it_scrape_it_and_stop_it(
    daemon: tuple[subprocess.Popen[bytes], Path], port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    process, config = daemon

    def status() -> dict[str, object] | None:
        assert process.poll() is None
        if cli.main(["status", "--config", str(config), "-o", "json"]) != 0:
            return None
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        return found if found.get("outstanding") else None

    def listening() -> bool:
        assert process.poll() is None
        return (config.parent / "run" / "vcpud.sock").exists()

    wait_for(listening)
    document = wait_for(status)
    assert isinstance(document, dict)
    assert document["notes"][0].startswith("a simulated host")
    assert {one["name"] for one in document["domains"]} == {"db", "mail"}
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        assert b'vcpud_domain_vcpus{domain="db"' in page.read()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == os.EX_OK, errors.decode()
    assert FileLedger(config.parent / "state").outstanding() == (), "everything was given back"
