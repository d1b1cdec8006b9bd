"""Pools from cpusets, and what /proc and /sys tell of hosts and processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from vcpud.errors import ConfigError
from vcpud.hypervisor.options import LibvirtOptions, read_options
from vcpud.hypervisor.pools import divide
from vcpud.hypervisor.proc import ProcFiles
from vcpud.hypervisor.xml import parse_description
from vcpud.model import ShareUnit, Trouble
from vcpud.units import NS_PER_S

HOST = frozenset(range(8))
ANY = (None, None)
UUID = "8f103916-5243-4a89-acaa-6e9727a9d3d1"


def cpus(*numbers: int) -> frozenset[int]:
    return frozenset(numbers)


def test_domains_without_a_cpuset_share_the_host() -> None:
    found = divide({"a": ANY, "b": ANY}, HOST)
    assert [(pool.name, pool.pcpus) for pool in found.pools] == [("host", 8)]
    assert {place.pool for place in found.members.values()} == {"host"}
    assert not any(place.trouble for place in found.members.values())


def test_domains_with_the_same_cpuset_share_a_pool() -> None:
    low, high = (cpus(0, 1, 2, 3),) * 2, (cpus(4, 5, 6, 7),) * 2
    found = divide({"a": low, "b": low, "c": high}, HOST)
    assert found.members["a"] == found.members["b"]
    assert found.members["a"].pool == "0-3"
    assert found.members["c"].pool == "4-7"
    assert found.members["c"].trouble is None


def test_pools_that_overlap_are_only_observed() -> None:
    found = divide({"a": ANY, "b": (cpus(0, 1),) * 2}, HOST)
    assert {place.trouble for place in found.members.values()} == {Trouble.POOLS_OVERLAP}


def test_a_domain_pinned_one_to_one_troubles_only_itself() -> None:
    found = divide({"a": ANY, "b": (cpus(0), cpus(1))}, HOST)
    assert found.members["b"].trouble is Trouble.PINNED
    assert found.members["b"].pool == "host"
    assert found.members["a"].trouble is None


def test_two_vcpus_on_one_and_the_same_pcpu_are_a_pool_and_not_pinned() -> None:
    found = divide({"a": (cpus(3), cpus(3))}, HOST)
    assert found.members["a"].pool == "3"
    assert found.members["a"].trouble is None


def test_only_pools_that_a_domain_is_in_are_there_to_be_shared() -> None:
    shared, own = (cpus(2, 3, 4, 5),) * 2, (cpus(6), cpus(7))
    found = divide({"a": shared, "b": own}, HOST)
    assert [(pool.name, pool.pcpus) for pool in found.pools] == [("2-5", 4), ("6-7", 2)]
    assert found.pcpus == HOST - cpus(0, 1)
    inside = divide({"a": shared, "b": (cpus(2), cpus(3))}, HOST)
    assert [(pool.name, pool.pcpus) for pool in inside.pools] == [("2-5", 4)]
    assert [(pool.name, pool.pcpus) for pool in divide({}, HOST).pools] == [("host", 8)]


def stat(root: Path, *busy: int) -> None:
    """Per pCPU so many ticks of use, and as many again that are none: idle, or counted twice."""
    lines = [f"cpu{n} {b} 0 0 {b} 0 0 0 0 {b} 0\n" for n, b in enumerate(busy)]
    write(root / "proc/stat", "".join(["cpu  999 0 0 0 0 0 0 0 0 0\n", *lines, "intr 7\n"]))


def test_busy_time_is_that_of_the_pcpus_asked_for_and_never_jumps(tmp_path: Path) -> None:
    files = ProcFiles(tmp_path)
    tick_ns = 10_000_000
    stat(tmp_path, 5, 7)
    assert files.busy_ns(cpus(0)) == 5 * tick_ns
    stat(tmp_path, 6, 9)
    assert files.busy_ns(cpus(0, 1)) == (5 + 1 + 2) * tick_ns
    stat(tmp_path, 6, 10, 400)
    assert files.busy_ns(cpus(1, 2)) == (8 + 1) * tick_ns, "one that came has no past here"
    stat(tmp_path, 8, 10)
    assert files.busy_ns(cpus(0, 2)) == (9 + 2) * tick_ns
    write(tmp_path / "proc/stat", "cpu  1 2 3\n")
    assert files.busy_ns(cpus(0)) is None


def test_a_domain_in_two_pools_at_once_is_only_observed() -> None:
    found = divide({"a": (cpus(0, 1), cpus(2, 3))}, HOST)
    assert found.members["a"].trouble is Trouble.POOLS_OVERLAP


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def process(
    root: Path, *, cgroup: str, autogroup: str | None = "/autogroup-7 nice 0"
) -> ProcFiles:
    write(root / "proc/42/cmdline", f"qemu\0-name\0guest=web,debug\0-uuid\0{UUID}\0-S\0")
    write(root / "proc/42/stat", "42 (qemu (x) y) S " + "0 " * 18 + "1234 0 0\n")
    write(root / "proc/42/cgroup", cgroup)
    if autogroup is not None:
        write(root / "proc/42/autogroup", autogroup)
    write(root / "proc/sys/kernel/sched_autogroup_enabled", "1\n")
    write(root / "proc/43/cmdline", "sh\0-c\0-uuid\0")
    return ProcFiles(root)


def test_a_domains_process_is_found_by_its_uuid(tmp_path: Path) -> None:
    assert process(tmp_path, cgroup="0::/\n").qemu_pids() == {UUID: 42}


@pytest.mark.parametrize(("ticks", "elder"), [(1000, 41), (5000, 42)])
def test_of_two_processes_of_one_domain_the_elder_counts(
    tmp_path: Path, ticks: int, elder: int
) -> None:
    files = process(tmp_path, cgroup="0::/\n")
    newcomer = tmp_path / "proc" / "41"
    write(newcomer / "cmdline", (tmp_path / "proc/42/cmdline").read_text())
    write(newcomer / "stat", f"41 (qemu) S {'0 ' * 18}{ticks} 0\n")
    assert files.qemu_pids() == {UUID: elder}


def test_the_start_of_a_process_is_read_whatever_its_name_holds(tmp_path: Path) -> None:
    found = process(tmp_path, cgroup="0::/\n").process(42)
    assert found is not None
    assert found.start_ticks == 1234
    assert process(tmp_path, cgroup="0::/\n").process(44) is None


SCOPE = "machine.slice/machine-qemu\\x2d1\\x2dweb.scope"


def vcpus(root: Path, *cgroups: str, first: int = 0) -> ProcFiles:
    """The threads of process 42: an emulator, and a vCPU in each of these cgroups."""
    files = process(root, cgroup=f"0::/{SCOPE}/libvirt/emulator\n")
    write(root / "proc/42/task/42/comm", "qemu-system-x86\n")
    for number, cgroup in enumerate(cgroups, first):
        write(root / f"proc/42/task/{100 - number}/comm", f"CPU {number}/KVM\n")
        write(root / f"proc/42/task/{100 - number}/cgroup", cgroup)
    return files


def test_where_vcpus_may_run_is_asked_of_their_cgroups_by_their_number(tmp_path: Path) -> None:
    files = vcpus(tmp_path, *(f"0::/{SCOPE}/libvirt/vcpu{n}\n" for n in (9, 10)), first=9)
    groups = tmp_path / "sys/fs/cgroup"
    write(groups / SCOPE / "libvirt/vcpu9/cpuset.cpus.effective", "0,2\n")
    write(groups / "machine.slice/cpuset.cpus.effective", "0-3\n")
    assert files.cpusets(42) == (cpus(0, 2), cpus(0, 1, 2, 3)), "the nearest that has one"


def test_cpusets_of_version_1_are_understood(tmp_path: Path) -> None:
    files = vcpus(tmp_path, "3:cpuset:/machine/qemu-1-web.libvirt-qemu/vcpu0\n0::/\n")
    place = "sys/fs/cgroup/cpuset/machine/qemu-1-web.libvirt-qemu/vcpu0/cpuset.effective_cpus"
    write(tmp_path / place, "4-5\n")
    assert files.cpusets(42) == (cpus(4, 5),)


@pytest.mark.parametrize("told", ["", "all", None])
def test_where_one_vcpu_is_not_told_of_nothing_is_said_of_any(
    tmp_path: Path, told: str | None
) -> None:
    files = vcpus(tmp_path, *(f"0::/{SCOPE}/libvirt/vcpu{n}\n" for n in (0, 1)))
    for number, text in enumerate(("0-1\n", told)):
        if text is not None:
            group = tmp_path / "sys/fs/cgroup" / SCOPE / f"libvirt/vcpu{number}"
            write(group / "cpuset.cpus.effective", text)
    assert files.cpusets(42) == ()
    assert files.cpusets(43) == ()


def test_cgroups_narrow_what_a_description_says_of_the_vcpus_it_has() -> None:
    text = "<domain type='kvm'><name>n</name><vcpu cpuset='0-3'>2</vcpu></domain>"
    said = parse_description(text)
    assert said.within((cpus(3, 4), cpus(0, 1))).affinities == (cpus(3), cpus(0, 1))
    assert said.within((cpus(8), cpus(8))).affinities == said.affinities, "both cannot be true"
    assert said.within(()).affinities == said.within((cpus(0),)).affinities == said.affinities
    free = parse_description(text.replace(" cpuset='0-3'", ""))
    assert free.within((cpus(5), cpus(6))).affinities == (cpus(5), cpus(6))


def test_a_cgroup_of_its_own_makes_the_domain_the_unit(tmp_path: Path) -> None:
    scope = "machine.slice/machine-qemu\\x2d1\\x2dweb.scope"
    files = process(tmp_path, cgroup=f"0::/{scope}/libvirt/emulator\n")
    write(tmp_path / "sys/fs/cgroup" / scope / "cpu.weight", "100\n")
    assert files.share_unit(42) is ShareUnit.DOMAIN


def test_version_1_cgroups_are_understood(tmp_path: Path) -> None:
    files = process(tmp_path, cgroup="2:cpu,cpuacct:/machine/qemu-1-web.libvirt-qemu/emulator\n")
    assert files.share_unit(42) is ShareUnit.DOMAIN


def test_without_one_a_session_of_its_own_is_the_unit(tmp_path: Path) -> None:
    assert process(tmp_path, cgroup="1:cpu:/\n0::/\n").share_unit(42) is ShareUnit.SESSION


def test_in_somebody_elses_cgroup_every_thread_counts(tmp_path: Path) -> None:
    files = process(tmp_path, cgroup="0::/user.slice/session-1.scope\n")
    write(tmp_path / "sys/fs/cgroup/user.slice/cpu.weight", "100\n")
    assert files.share_unit(42) is ShareUnit.VCPU


def test_without_autogroups_every_thread_counts(tmp_path: Path) -> None:
    files = process(tmp_path, cgroup="0::/\n", autogroup=None)
    assert files.share_unit(42) is ShareUnit.VCPU


def test_what_cannot_be_read_is_unknown_and_no_guess(tmp_path: Path) -> None:
    files = ProcFiles(tmp_path)
    assert files.share_unit(42) is ShareUnit.UNKNOWN
    assert files.busy_ns(cpus(0)) is None
    assert files.boot_id() == ""
    assert files.qemu_pids() == {}
    assert files.online_pcpus()


def test_options_left_out_take_their_defaults_and_the_argument_wins() -> None:
    found = read_options(
        {"uri": "qemu:///system", "workers": 3}, "test:///default", LibvirtOptions
    )
    assert found == LibvirtOptions(uri="test:///default", workers=3)
    assert found.agent_period_ns == 5 * NS_PER_S


def test_every_unknown_option_is_named() -> None:
    with pytest.raises(ConfigError, match=r"(?s)libvirt\.a:.*libvirt\.b:"):
        read_options({"a": 1, "b": 2}, "", LibvirtOptions)
