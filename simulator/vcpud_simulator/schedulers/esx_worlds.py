"""What ESX counts of each vCPU: use of what it is entitled to, and progress beside its siblings.

Use is time run in units of the entitlement: who has used least is due. Progress is time run or idle.

References: as in `esx_strict`.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Final

from vcpud_simulator.entities import BLOCKED, OFFLINE, RUNNING, Domain, Vcpu

if TYPE_CHECKING:
    from vcpud_simulator.host import Host

IDLE: Final = frozenset({BLOCKED, OFFLINE})
"""States in which a vCPU keeps up with its siblings."""
PCPU: Final = 1 << 16
"""Unit of entitlements: a whole pCPU."""


class World:
    """What the scheduler knows of one vCPU (VMkernel's word for it).

    Attributes:
        used_ns: Time it ran, in units of its entitlement.
        charged_ns: Until when that is.
        progress_ns: Its progress, for comparison with its siblings'.
        seen_ns: Time run and idle at the last poll.
        yielding: Whether it yielded.
        fresh: Whether it has never run.
    """

    __slots__ = ("charged_ns", "fresh", "progress_ns", "seen_ns", "used_ns", "yielding")

    def __init__(self) -> None:
        self.used_ns = 0
        self.charged_ns = 0
        self.progress_ns = 0
        self.seen_ns = 0
        self.yielding = False
        self.fresh = True


def charge(vcpu: Vcpu, now_ns: int) -> None:
    """Add the time it has run since to what it has used."""
    world: World = vcpu.sched
    world.used_ns += (now_ns - world.charged_ns) * PCPU // vcpu.domain.sched
    world.charged_ns = now_ns


def entitle(host: Host) -> None:
    """Divide the host among active domains by weight, at most a pCPU for each online vCPU.

    A domain's entitlement is divided evenly among its online vCPUs.
    """
    width = {}
    for domain in host.domains:
        online, active = 0, False
        for vcpu in domain.vcpus:
            state = vcpu.state
            if state != OFFLINE:
                online += 1
                active = active or state != BLOCKED
        if active:
            width[domain] = online
    left, weight = len(host.pcpus) * PCPU, sum(domain.weight for domain in width)
    # Who reaches its limit first is first: the rest is then divided among the others.
    for domain in sorted(width, key=lambda domain: width[domain] / domain.weight):
        share = min(left * domain.weight // weight, width[domain] * PCPU)
        domain.sched = max(1, share // width[domain])
        left -= share
        weight -= domain.weight


def measure(domain: Domain, now_ns: int) -> int:
    """Progress since the last poll; the idle keep up with the leader, which is returned."""
    most_ns, idle = 0, []
    for vcpu in domain.vcpus:
        world: World = vcpu.sched
        state = vcpu.state
        made_ns = vcpu.run_ns + vcpu.blocked_ns
        if state == RUNNING or state == BLOCKED:  # noqa: PLR1714, SIM109 - hot
            made_ns += now_ns - vcpu.since_ns
        progress_ns = world.progress_ns + made_ns - world.seen_ns
        world.progress_ns = progress_ns
        world.seen_ns = made_ns
        if state in IDLE:
            idle.append(world)
        elif progress_ns > most_ns:
            most_ns = progress_ns
    for world in idle:
        world.progress_ns = most_ns
    return most_ns


def leader_ns(domain: Domain) -> int:
    """The most progress among those that are not idle, as of the last poll."""
    return max(
        (v.sched.progress_ns for v in domain.vcpus if v.state not in {BLOCKED, OFFLINE}),
        default=0,
    )


def slowest_ns(domain: Domain, default_ns: int) -> int:
    """The least progress among those that are not idle, as of the last poll."""
    return min(
        (v.sched.progress_ns for v in domain.vcpus if v.state not in {BLOCKED, OFFLINE}),
        default=default_ns,
    )


progress = attrgetter("sched.progress_ns")
used = attrgetter("sched.used_ns")
