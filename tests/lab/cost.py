"""What vcpud costs: its own CPU time and the agents', and a cycle against the bare libvirt call it needs."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import libvirt
from lab.board import AGENT_RUN_NS, Kind, Order
from lab.domain import Shape, domain_xml
from lab.managed import Vcpud
from lab.stage import say

if TYPE_CHECKING:
    from lab.bench import Bench
    from lab.stage import Stage

TWO_DOMAINS_S = 30.0
PAUSED_DOMAINS = 100
CYCLES_S = 15.0
WARM_UP_S = 10.0
CORE_SHARE_LIMIT = 0.01
CYCLE_LIMIT = 2.0
_GROUPS = libvirt.VIR_DOMAIN_STATS_STATE | libvirt.VIR_DOMAIN_STATS_VCPU
_FLAGS = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process and all its threads, in seconds, to the nanosecond."""
    total_ns = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            total_ns += int(path.read_text().split()[0])
    return total_ns / 1e9


def two_domains(stage: Stage) -> dict[str, float]:
    """Return what vcpud and the agents use at a period of 1 s for two working domains."""
    guests = stage.guests("pair")
    stage.give(guests, {guest.name: Order(kind=Kind.KERNEL_LOCK) for guest in guests})
    vcpud = stage.fresh_vcpud()
    time.sleep(2 * WARM_UP_S)  # until it has shrunk them and judged
    began_s = time.monotonic()
    own_s, libvirtd_s = cpu_s(vcpud.pid), cpu_s(stage.bench.lab.pid)
    agents_ns = sum(guest.board.read(AGENT_RUN_NS) for guest in guests)
    time.sleep(TWO_DOMAINS_S)
    elapsed_s = time.monotonic() - began_s
    own = (cpu_s(vcpud.pid) - own_s) / elapsed_s
    libvirtd = (cpu_s(stage.bench.lab.pid) - libvirtd_s) / elapsed_s
    agents = (sum(g.board.read(AGENT_RUN_NS) for g in guests) - agents_ns) / 1e9 / elapsed_s
    stage.end_vcpud()
    say(f"  vcpud {own:.4f} + agents {agents:.4f} of a core; libvirtd {libvirtd:.4f}")
    return {
        "core_share": own + agents,
        "vcpud_core_share": own,
        "agents_core_share": agents,
        "libvirtd_core_share": libvirtd,
    }


def _start_paused(bench: Bench, count: int, cpuset: str) -> list[libvirt.virDomain]:
    shape = Shape(name="", vcpus=4, memory_mib=32, agent=False, cpuset=cpuset)
    started = []
    for number in range(count):
        xml = domain_xml(replace(shape, name=f"p{number}"), bench.lab, None)
        started.append(bench.connection.createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED))
    return started


def _bare_cycle_s(bench: Bench) -> float:
    """Return the CPU time of one bulk call in a program that does nothing else."""
    connection = libvirt.openReadOnly(bench.lab.uri)
    try:
        connection.getAllDomainStats(_GROUPS, _FLAGS)
        calls = 0
        began_s, ends_s = time.thread_time(), time.monotonic() + CYCLES_S
        while time.monotonic() < ends_s:
            connection.getAllDomainStats(_GROUPS, _FLAGS)
            calls += 1
            time.sleep(1.0)
        return (time.thread_time() - began_s) / calls
    finally:
        connection.close()


def many_domains(stage: Stage) -> dict[str, float]:
    """Return the CPU time of a cycle over 100 paused domains against that of the bare call."""
    bench = stage.bench
    stage.end_vcpud()
    for name in tuple(bench.guests):
        bench.destroy(name)
    began_s = time.monotonic()
    domains = _start_paused(bench, PAUSED_DOMAINS, stage.cpuset)
    say(f"  {PAUSED_DOMAINS} paused domains after {time.monotonic() - began_s:.0f} s")
    try:
        bare_s = _bare_cycle_s(bench)
        vcpud = stage.fresh_vcpud()
        time.sleep(WARM_UP_S)
        cycle_s, libvirtd_s = _cycle_s(vcpud, bench)
        stage.end_vcpud()
    finally:
        for domain in domains:
            with contextlib.suppress(libvirt.libvirtError):
                domain.destroy()
    say(
        f"  a cycle uses {cycle_s * 1e3:.2f} ms, the bare call {bare_s * 1e3:.2f} ms, "
        f"libvirtd {libvirtd_s * 1e3:.2f} ms for it"
    )
    return {
        "cycle_over_bare_call": cycle_s / bare_s,
        "cycle_ms": cycle_s * 1e3,
        "bare_call_ms": bare_s * 1e3,
        "libvirtd_cycle_ms": libvirtd_s * 1e3,
    }


def _cycle_s(vcpud: Vcpud, bench: Bench) -> tuple[float, float]:
    first = vcpud.status()["cycle"]
    began_s, libvirtd_s = cpu_s(vcpud.pid), cpu_s(bench.lab.pid)
    time.sleep(CYCLES_S)
    own_s, theirs_s = cpu_s(vcpud.pid) - began_s, cpu_s(bench.lab.pid) - libvirtd_s
    cycles = max(1, vcpud.status()["cycle"] - first)
    return own_s / cycles, theirs_s / cycles


def run_cost(stage: Stage) -> dict[str, Any]:
    """Measure both; returns the figures with their verdicts under ``passed``."""
    figures: dict[str, Any] = {**two_domains(stage), **many_domains(stage)}
    figures["passed"] = (
        figures["core_share"] <= CORE_SHARE_LIMIT
        and figures["cycle_over_bare_call"] <= CYCLE_LIMIT
    )
    say(
        f"  {'pass' if figures['passed'] else 'FAIL'}  core_share {figures['core_share']:.4f} <= "
        f"{CORE_SHARE_LIMIT}, cycle_over_bare_call {figures['cycle_over_bare_call']:.2f} <= "
        f"{CYCLE_LIMIT:g}"
    )
    return figures
