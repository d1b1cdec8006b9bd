"""What being asked costs a simulated guest, which is little however little it gets."""

from __future__ import annotations

from itertools import pairwise

import pytest

from unit.simulator.backend_rig import MS, Rig, S, plan
from vcpud.model import Mode
from vcpud.tracks import GUEST_STALE_NS
from vcpud_simulator.entities import RUNNING
from vcpud_simulator.workloads.gobmk import GobmkLike


def read_at_ns(rig: Rig, duration_ns: int) -> list[int]:
    """When each new reading of the guest was taken."""
    found: list[int] = []
    for _ in range(duration_ns // (100 * MS)):
        rig.wait(100 * MS)
        guest = rig.look().guest
        if guest is not None and guest.accounting is not None:
            at_ns = guest.accounting.taken_at_ns
            if at_ns not in found[-1:]:
                found.append(at_ns)
    return found


def progressed(platform: str, mode: Mode, weight: int) -> tuple[int, int, list[int]]:
    """What a guest of one vCPU beside a busy one gets done, and has, in 300 s; and when it was read."""
    rig = Rig(
        plan(GobmkLike(unit_ns=MS), vcpus=1, weight=weight, mode=mode),
        plan(GobmkLike(), name="b", vcpus=1, weight=256),
        platform=platform,
        pcpus=1,
        seed=3,
        scheduler="cfs_groups" if platform == "kvm" else "credit2",
    )
    found = read_at_ns(rig, 300 * S)
    inhabitant = rig.world.residents["a"].inhabitant
    used_ns = sum(v.in_state_ns(RUNNING, 300 * S) for v in inhabitant.kernel.domain.vcpus)
    return inhabitant.progress.total, used_ns, found


@pytest.mark.parametrize("platform", ["kvm", "xen-reporter"])
def test_being_asked_costs_a_guest_a_hundredth_however_little_it_gets(platform: str) -> None:
    left_alone, _, _ = progressed(platform, Mode.OBSERVE, 13)
    asked, used_ns, found = progressed(platform, Mode.ENFORCE, 13)
    assert 0.04 < used_ns / (300 * S) < 0.07
    assert 0.98 < asked / left_alone < 1.0
    assert max(b - a for a, b in pairwise(found)) < GUEST_STALE_NS


@pytest.mark.parametrize("platform", ["kvm", "xen-reporter"])
def test_a_guest_with_plenty_is_asked_as_often_as_ever(platform: str) -> None:
    _, used_ns, found = progressed(platform, Mode.ENFORCE, 256)
    assert used_ns > 0.45 * 300 * S
    assert {round((b - a) / S) for a, b in pairwise(found[2:])} <= {4, 5, 6}
