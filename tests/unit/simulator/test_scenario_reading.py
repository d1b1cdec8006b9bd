"""Scenarios as files: what is right is read, what is wrong is named, all at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vcpud.errors import ConfigError
from vcpud.model import Method, Mode
from vcpud_simulator import reading
from vcpud_simulator.catalogue import LOCKS, SCHEDULERS, WORKLOADS
from vcpud_simulator.guest.locks import UnfairLock
from vcpud_simulator.laboratory.reading import find_scenario, read_scenario, scenario_names
from vcpud_simulator.platform import PLATFORMS, Signal
from vcpud_simulator.scenario import DomainPlan, Kind, Lie, Pause, Scenario, faults
from vcpud_simulator.workloads.ammp import AmmpLike, Wait
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.workloads.gobmk import GobmkLike
from vcpud_simulator.workloads.phased import Phase, Phased
from vcpud_simulator.workloads.web import WebServer

CHECKOUT = Path(__file__).resolve().parents[3]
WHOLE = """\
title: Everything
stands_for: something
kind: lab
expectation: nothing
tags: [a, b]
pcpus: 8
scheduler: credit
scheduler_options: {slice: 10ms, boosting: false}
platform: xen-reporter
pause: any
seed: 7
warmup: 0s
duration: 1m 30s
period: 500ms
noise: {vcpus: 8, weight: 512, burst: 50us, sleep: 5ms}
signals:
  agent_period: 2s
  locks: {latency: 200ms, noise_ratio: 0.1, staleness: 1s, loss_ratio: 0.05}
actuation: {latency: 50ms, failure_ratio: 0.1, lost_answer_ratio: 0.2}
costs: {context_switch: 1us, boot: 7ms, down_grace_periods: 2}
domains:
  web:
    vcpus: 4
    online: 2
    weight: 512
    cap_pcpus: 2.5
    min_vcpus: 2
    mode: observe
    method: grow_only
    arrives: 10s
    departs: 20s
    copies: 2
    guest: {hz: 1000, steal_clock: false, tick: 3us}
    missing: [locks]
    lies: [all_user]
    workload: {kind: web, requests_per_s: 200, workers: 3}
  lock: {vcpus: 2, workload: {kind: descriptors, lock: unfair}}
  omp: {vcpus: 2, workload: {kind: ammp, wait: passive, spin: 0s}}
  day:
    vcpus: 2
    workload:
      kind: phased
      phases:
        - workload: gobmk
        - {workload: {kind: gobmk, unit: 2ms}, duration: 5s}
"""


@pytest.fixture
def write(tmp_path: Path) -> Path:
    return tmp_path / "mine.yaml"


def mistakes(path: Path, text: str | bytes) -> list[str]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        read_scenario(path)
    assert caught.value.exit_code == 3
    return str(caught.value).splitlines()


def test_every_key_arrives_in_its_field(write: Path) -> None:
    write.write_text(WHOLE)
    scenario = read_scenario(write)
    assert (scenario.name, scenario.kind, scenario.tags) == ("mine", Kind.LAB, ("a", "b"))
    assert scenario.scheduler_options == {"slice_ns": 10_000_000, "boosting": False}
    assert (scenario.pause, scenario.seed) == (Pause.ANY, 7)
    assert (scenario.warmup_ns, scenario.duration_ns) == (0, 90_000_000_000)
    assert scenario.noise.burst_ns == 50_000
    assert scenario.signals.of(Signal.LOCKS).staleness_ns == 1_000_000_000
    assert scenario.signals.of(Signal.RUN).staleness_ns == 0
    assert scenario.actuation.lost_answer_ratio == 0.2
    assert scenario.costs == {
        "context_switch_ns": 1_000,
        "boot_ns": 7_000_000,
        "down_grace_periods": 2,
    }
    web, lock, omp, day = scenario.domains
    assert web == DomainPlan(
        name="web",
        vcpus=4,
        online=2,
        weight=512,
        cap_pcpus=2.5,
        min_vcpus=2,
        mode=Mode.OBSERVE,
        method=Method.GROW_ONLY,
        arrives_ns=10_000_000_000,
        departs_ns=20_000_000_000,
        copies=2,
        guest={"hz": 1000, "steal_clock": False, "tick_ns": 3_000},
        missing=(Signal.LOCKS,),
        lies=(Lie.ALL_USER,),
        workload=WebServer(requests_per_s=200.0, workers=3),
    )
    assert [plan.name for plan in web.each()] == ["web-1", "web-2"]
    assert lock.workload == Descriptors(lock=UnfairLock)
    assert omp.workload == AmmpLike(wait=Wait.PASSIVE, spin_ns=0)
    assert day.workload == Phased(
        phases=(
            Phase(workload=GobmkLike()),
            Phase(workload=GobmkLike(unit_ns=2_000_000), duration_ns=5_000_000_000),
        )
    )


def test_all_mistakes_are_named_at_once_with_line_and_key(write: Path) -> None:
    text = """\
titel: x
pcpus: 0
scheduler: credti
platform: kmv
warmup: 3
duration: -5s
seed: -1
costs: {context_swich: 2us, migration: 10}
signals: {locks: {latency: 2 parsecs, loss_ratio: 3}, lock: {}}
domains:
  web:
    vcpus: 1000000000
    workload: {kind: descriptors, threads: 1000000000, hold: 60, lock: fair}
  "bad name!": {vcpus: 2, workload: gobmk}
  db:
    vcpu: 4
    workload: gobmkk
    online: two
  late:
    vcpus: 2
    online: 3
    workload: {kind: phased, phases: [{workload: {kind: gobmk, unit: -3s}}, {duration: 3s}]}
    arrives: 10s
    departs: 5s
    guest: {hzz: 3}
  nothing:
"""
    told = mistakes(write, text)
    places = [line.removeprefix(f"{write}:").split(": ")[:2] for line in told]
    assert places == [
        ["1", "titel"],
        ["2", "pcpus"],
        ["3", "scheduler"],
        ["4", "platform"],
        ["5", "warmup"],
        ["6", "duration"],
        ["7", "seed"],
        ["8", "costs.context_swich"],
        ["8", "costs.migration"],
        ["9", "signals.lock"],
        ["9", "signals.locks.latency"],
        ["9", "signals.locks.loss_ratio"],
        ["10", "domains"],
        ["12", "domains.web.vcpus"],
        ["13", "domains.web.workload.hold"],
        ["13", "domains.web.workload.lock"],
        ["13", "domains.web.workload.threads"],
        ["14", "domains.bad name!"],
        ["15", "domains.db.vcpus"],
        ["16", "domains.db.vcpu"],
        ["17", "domains.db.workload"],
        ["18", "domains.db.online"],
        ["21", "domains.late.online"],
        ["22", "domains.late.workload.phases.0.workload.unit"],
        ["22", "domains.late.workload.phases.1.workload"],
        ["24", "domains.late.departs"],
        ["25", "domains.late.guest.hzz"],
        ["26", "domains.nothing"],
    ]
    assert told[0].endswith("there is no such key; did you mean 'title'?")
    assert "expected 1 to 1024, found 0" in told[1]


DOMAIN = "domains: {a: {vcpus: 2, workload: gobmk}}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "pcpus: is missing"),
        ("pcpus: 2\n", "domains: is missing"),
        ("pcpus: 2\ndomains: {}\n", "at least one domain"),
        ("pcpus: 2\ndomains: [a]\n", "expected names"),
        ("- 1\n", "expected keys and values"),
        (f"pcpus: 2\npcpus: 3\n{DOMAIN}", "written twice, first in line 1"),
        ("a: &x [*x]\n", "anchors and aliases are not allowed"),
        (f"pcpus: !!python/object:os.system 2\n{DOMAIN}", "is not allowed here"),
        ("a: " + "[" * 500 + "]" * 500, "nested more than"),
        ("a: [1\n", "not YAML"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b"a" * 300_000, "is larger than 256 KiB"),
        (f"pcpus: 2.5\n{DOMAIN}", "expected a whole number"),
        (f"pcpus: .nan\n{DOMAIN}", "expected a whole number"),
        (f"pcpus: 2\nduration: 1e400\n{DOMAIN}", "expected a duration"),
        (f"pcpus: 2\nscheduler: round_robin\nscheduler_options: {{slice: 0s}}\n{DOMAIN}", "10us"),
        (f"pcpus: 2\nscheduler_options: {{quantum: 1ms}}\n{DOMAIN}", "there is no such key"),
        (
            ("pcpus: 2\nscheduler: esx_strict\n"
            f"scheduler_options: {{costart: 9ms, costop: 1ms}}\n{DOMAIN}"),
            "costart_ns must not be larger",
        ),
        ("pcpus: 2\ndomains: {a: {vcpus: 2, workload: {kind: gobmk, unit: 0s}}}", "1ns to 24h"),
        ("pcpus: 2\ndomains: {a: {vcpus: 2, workload: {threads: 2}}}", "a workload's kind"),
        (("pcpus: 2\ndomains: {a: {vcpus: 2, copies: 2, workload: gobmk}, a-1: "
         "{vcpus: 1, workload: gobmk}}"), "two domains named 'a-1'"),
        ("pcpus: 2\ndomains: {a: {vcpus: 1000, copies: 1000, workload: gobmk}}", "4096 vCPUs"),
        ("pcpus: 2\ndomains: {a: {vcpus: 2, guest: {hz: 0}, workload: gobmk}}", "hz: expected 1"),
        (f"pcpus: 2\nkind: nice\n{DOMAIN}", "there is no 'nice'"),
        (f"pcpus: 2\ntags: x\n{DOMAIN}", "expected a list"),
        (f"pcpus: 2\nnoise: 3\n{DOMAIN}", "expected keys and values"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_whole(write: Path, text: str | bytes, expected: str) -> None:
    assert any(expected in line for line in mistakes(write, text))


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path, tmp_path / "pipe.yaml", tmp_path / "absent.yaml", Path("/dev/zero")):
        with pytest.raises(ConfigError):
            read_scenario(path)


def test_a_name_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match="did you mean 'kernel_lock'"):
        read_scenario("kernel_lok")


@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_that_ships_is_right_and_says_what_it_is(name: str) -> None:
    scenario = read_scenario(name)
    assert scenario.name == name
    assert scenario.title
    assert scenario.stands_for
    assert scenario.expectation
    assert faults(scenario) == ()


def test_scenarios_are_found_in_the_checkout_and_go_into_the_wheel() -> None:
    assert find_scenario("kernel_lock") == CHECKOUT / "simulator/scenarios/kernel_lock.yaml"
    project = (CHECKOUT / "pyproject.toml").read_text()
    assert '"simulator/scenarios" = "vcpud_simulator/scenarios"' in project
    assert CHECKOUT / "simulator/vcpud_simulator/scenarios" in reading.folders()


def test_every_name_of_the_catalogue_makes_something() -> None:
    for name, factory in SCHEDULERS.items():
        assert factory().tick_ns >= 0, name
    for name, kind in WORKLOADS.items():
        plan = DomainPlan(
            name="a",
            vcpus=1,
            workload=Phased(phases=(Phase(workload=GobmkLike()),)) if name == "phased" else kind(),
        )
        scenario = Scenario(name="s", pcpus=1, domains=(plan,))
        assert faults(scenario) == (), name
    assert set(LOCKS) == {"queued", "unfair", "preemptable", "paravirtual"}
    assert set(PLATFORMS) == {"kvm", "kvm-perf", "xen", "xen-reporter", "tcg"}


def test_a_scenario_made_in_code_is_checked_all_the_same() -> None:
    plan = DomainPlan(name="a", vcpus=2, workload=GobmkLike(), guest={"hzz": 1})
    wrong = Scenario(name="s", pcpus=0, domains=(plan, plan), scheduler="nope")
    assert [key for key, _ in faults(wrong)] == [
        ("pcpus",),
        ("scheduler",),
        ("domains", "a", "guest", "hzz"),
        ("domains", "a", "guest", "hzz"),
        ("domains", "a"),
    ]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_ceiling_is_refused_where_nobody_would_keep_it(name: str) -> None:
    plan = DomainPlan(name="tenant", vcpus=2, workload=GobmkLike(), cap_pcpus=0.5)
    found = faults(Scenario(name="s", pcpus=1, domains=(plan,), scheduler=name))
    kept = {"credit_xen32", "credit", "credit2", "cfs_groups", "cfs_balance", "eevdf_groups"}
    if name in kept:
        assert found == ()
    else:
        [(key, words)] = found
        assert key == ("scheduler",)
        start = f"{name} keeps nobody to a ceiling, which tenant is to have (cap_pcpus); "
        assert words.startswith(start)
        assert set(words.removeprefix(start).removesuffix(" would").split(", ")) == kept


def test_the_documented_example_is_a_scenario(write: Path) -> None:
    text = (CHECKOUT / "simulator/scenarios/README.md").read_text()
    write.write_text(text.partition("```yaml\n")[2].partition("```")[0])
    assert [plan.name for plan in read_scenario(write).each()] == [
        "files",
        "batch-1",
        "batch-2",
        "visitor",
    ]
    for name in (*SCHEDULERS, *PLATFORMS):
        assert name in text
