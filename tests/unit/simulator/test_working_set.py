"""What a switch costs beyond the switch: a working set that others have displaced meanwhile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vcpud.errors import ConfigError
from vcpud_simulator.entities import RUNNING
from vcpud_simulator.experiment import Inhabitant, Laboratory
from vcpud_simulator.guest.costs import TOY, GuestConfig
from vcpud_simulator.host import FREE
from vcpud_simulator.reading import read_scenario
from vcpud_simulator.schedulers.round_robin import RoundRobin
from vcpud_simulator.workloads.gobmk import GobmkLike
from vcpud_simulator.workloads.noise import Noise

US = 1_000
MS = 1_000_000
TURN_US = 1_000


def refilling(refill_us: int) -> GuestConfig:
    return replace(TOY, refill_ns=refill_us * US)


def host(*refills_us: int, pcpus: int = 1, turn_us: int = TURN_US) -> Laboratory:
    """Hogs that take turns; a guest costs nothing but its refills."""
    lab = Laboratory(pcpus=pcpus, scheduler=RoundRobin(slice_ns=turn_us * US), costs=FREE)
    for number, refill_us in enumerate(refills_us):
        lab.add(f"d{number}", GobmkLike(), vcpus=1, config=refilling(refill_us))
    return lab


def overhead_ns(inhabitant: Inhabitant) -> int:
    for cpu in inhabitant.kernel.cpus:
        cpu.advance()
    return sum(cpu.true_overhead_ns for cpu in inhabitant.kernel.cpus)


def per_turn_us(lab: Laboratory, name: str) -> float:
    """What a domain loads in each of its turns, once everybody has been there."""
    lab.run_for(10 * len(lab.inhabitants) * TURN_US * US)
    before = overhead_ns(lab.inhabitants[name])
    lab.run_for(100 * len(lab.inhabitants) * TURN_US * US)
    return (overhead_ns(lab.inhabitants[name]) - before) / 100 / US


@pytest.mark.parametrize(
    ("mine_us", "others_us", "expected_us"),
    [
        (100, [100], 100),  # whoever returns finds all of it displaced
        (100, [30], 30),  # but no more than the other has loaded
        (30, [100], 30),
        (100, [30, 30], 60),
        (100, [80, 80], 100),  # nor more than all of it
        (100, [0], 0),  # who needs no cache displaces nothing
        (0, [100], 0),
    ],
)
def test_each_turn_loads_what_the_others_have_displaced(
    mine_us: int, others_us: list[int], expected_us: int
) -> None:
    assert per_turn_us(host(mine_us, *others_us), "d0") == expected_us


def test_it_is_run_time_without_progress() -> None:
    lab = host(100, 100)
    found = lab.measure(1_000 * TURN_US * US)
    for domain in found.values():
        assert domain.run_pcpus == pytest.approx(0.5, abs=0.001)
        assert domain.useful_pcpus == pytest.approx(0.45, abs=0.001)
        assert domain.spin_pcpus == 0
    for vcpu, inhabitant in zip(lab.host.vcpus, lab.inhabitants.values(), strict=True):
        (cpu,) = inhabitant.kernel.cpus
        run_ns = vcpu.in_state_ns(RUNNING, lab.engine.now_ns)
        assert cpu.true_work_ns + overhead_ns(inhabitant) == run_ns


def test_who_sleeps_and_returns_where_nobody_else_was_finds_everything() -> None:
    lab = Laboratory(pcpus=1, scheduler=RoundRobin(slice_ns=MS), costs=FREE)
    guest = lab.add("guest", Noise(), vcpus=1, config=refilling(100))
    lab.run_for(1_000 * MS)
    assert guest.kernel.host.pcpus[0].dispatches > 10
    assert overhead_ns(guest) == 100 * US


def test_on_another_pcpu_everything_is_to_be_loaded() -> None:
    lab = host(100, 0, 0, pcpus=2)
    lab.run_for(100 * TURN_US * US)
    moves = lab.host.vcpus[0].migrations
    assert moves > 0
    assert overhead_ns(lab.inhabitants["d0"]) == pytest.approx(
        100 * US * (moves + 1), abs=100 * US
    )


def test_who_is_preempted_while_loading_owes_only_the_rest() -> None:
    """In turns of 70 us the one that needs 100 us loads 70, and 30 in the next turn."""
    lab = host(100, 0, turn_us=70)
    lab.run_for(1_000 * MS)
    assert overhead_ns(lab.inhabitants["d0"]) == 100 * US


def test_only_what_was_loaded_displaces_anything() -> None:
    """In turns of 20 us nobody ever has what it needs, and yet no more is displaced than was loaded."""
    lab = host(50, 100, turn_us=20)
    lab.run_for(10 * MS)
    loaded_ns = sum(overhead_ns(inhabitant) for inhabitant in lab.inhabitants.values())
    assert 0 <= loaded_ns - lab.host.pcpus[0].loaded_ns <= 20 * US  # the current turn is not over


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("refill: 64", "a duration with its unit"),
        ("refill: -1us", ""),
        ("refill: 1s", "expected 0s to 10ms, found 1 s"),
        ("refil: 64us", "there is no such key"),
    ],
)
def test_a_refill_of_no_sense_is_refused_with_file_line_and_key(
    tmp_path: Path, written: str, expected: str
) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(
        f"pcpus: 1\ndomains:\n  a:\n    vcpus: 1\n    workload: gobmk\n    guest: {{{written}}}\n"
    )
    with pytest.raises(ConfigError) as refused:
        read_scenario(path)
    said = str(refused.value)
    assert f"{path}:6" in said
    assert f"domains.a.guest.{written.split(':', maxsplit=1)[0]}" in said
    assert expected in said
