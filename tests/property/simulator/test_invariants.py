"""What holds on every host, whatever runs on it and however it is resized meanwhile."""

from __future__ import annotations

from functools import partial

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vcpud_simulator.entities import RUNNABLE, RUNNING, Scheduler
from vcpud_simulator.experiment import Laboratory
from vcpud_simulator.guest.locks import ParavirtualLock, PreemptableLock, QueuedLock, UnfairLock
from vcpud_simulator.pause import PauseLoop
from vcpud_simulator.schedulers.cfs import Cfs
from vcpud_simulator.schedulers.credit import Credit
from vcpud_simulator.schedulers.credit_xen32 import CreditXen32
from vcpud_simulator.schedulers.round_robin import RoundRobin
from vcpud_simulator.trace import Digest
from vcpud_simulator.workloads.ammp import AmmpLike, Wait
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.workloads.gobmk import GobmkLike
from vcpud_simulator.workloads.noise import Noise
from vcpud_simulator.workloads.web import WebServer

MS = 1_000_000

SCHEDULERS = [
    RoundRobin,
    Credit,
    CreditXen32,
    Cfs,
    partial(Cfs, groups=False),
    partial(Cfs, siblings_apart=True),
]
WORKLOADS = [
    GobmkLike(),
    AmmpLike(grain_ns=300_000),
    AmmpLike(grain_ns=300_000, wait=Wait.PASSIVE),
    AmmpLike(grain_ns=300_000, wait=Wait.YIELDING, threads=3),
    AmmpLike(grain_ns=300_000, wait=Wait.SPIN_THEN_FUTEX, spin_ns=200_000, threads=5),
    *(
        Descriptors(rounds=10, gap_ns=10_000, hold_ns=500, lock=kind)
        for kind in (QueuedLock, UnfairLock, ParavirtualLock, PreemptableLock)
    ),
    WebServer(),
    Noise(),
]
domains = st.lists(
    st.tuples(st.sampled_from(WORKLOADS), st.integers(1, 4), st.sampled_from([128, 256, 1024])),
    min_size=1,
    max_size=4,
)
resizes = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=4)
relaxed = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def build(
    seed: int,
    pcpus: int,
    scheduler: Scheduler,
    guests: list[tuple[object, int, int]],
    *,
    pause: bool,
) -> tuple[Laboratory, Digest]:
    digest = Digest()
    lab = Laboratory(
        pcpus=pcpus,
        scheduler=scheduler,
        seed=seed,
        trace=digest,
        pause=PauseLoop() if pause else None,
    )
    for number, (workload, vcpus, weight) in enumerate(guests):
        lab.add(f"d{number}", workload, vcpus=vcpus, weight=weight)  # type: ignore[arg-type]
    return lab, digest


def check(lab: Laboratory, idle_since: dict[int, int]) -> None:
    """Assert what must hold at this instant."""
    host, now_ns = lab.host, lab.engine.now_ns
    for vcpu in host.vcpus:
        assert sum(vcpu.in_state_ns(state, now_ns) for state in range(5)) == now_ns
        places = [pcpu for pcpu in host.pcpus if pcpu.current is vcpu]
        assert len(places) == (vcpu.state == RUNNING)
        for cpu in lab.inhabitants[vcpu.domain.name].kernel.cpus:
            assert cpu.running == (cpu.vcpu.state == RUNNING)
    for pcpu in host.pcpus:
        assert pcpu.busy_until_ns(now_ns) + pcpu.idle_until_ns(now_ns) == now_ns
    busy_ns = sum(pcpu.busy_until_ns(now_ns) for pcpu in host.pcpus)
    assert busy_ns == sum(vcpu.in_state_ns(RUNNING, now_ns) for vcpu in host.vcpus)
    waiting = any(vcpu.state == RUNNABLE for vcpu in host.vcpus)
    for pcpu in host.pcpus:
        if pcpu.current is None and waiting:
            since_ns = idle_since.setdefault(pcpu.index, now_ns)
            assert now_ns - since_ns <= host.scheduler.balance_ns + MS
        else:
            idle_since.pop(pcpu.index, None)


@relaxed
@given(
    seed=st.integers(0, 1_000),
    pcpus=st.integers(1, 4),
    scheduler=st.sampled_from(SCHEDULERS),
    guests=domains,
    changes=resizes,
    pause=st.booleans(),
)
def test_time_adds_up_and_nobody_is_in_two_places_or_forgotten(  # noqa: PLR0913, PLR0917
    seed: int, pcpus: int, scheduler: type[Cfs], guests: list[tuple[object, int, int]],
    changes: list[tuple[int, int]], pause: bool,
) -> None:  # fmt: skip
    lab, _ = build(seed, pcpus, scheduler(), guests, pause=pause)
    idle_since: dict[int, int] = {}
    for step in range(120):
        lab.run_for(1 * MS)
        check(lab, idle_since)
        if step % 20 == 5 and step // 20 < len(changes):
            which, active = changes[step // 20]
            name, inhabitant = list(lab.inhabitants.items())[which % len(guests)]
            wanted = min(active, len(inhabitant.kernel.cpus))
            lab.inhabitants[name].agent.request(frozenset(range(wanted)))


@relaxed
@given(seed=st.integers(0, 1_000), scheduler=st.sampled_from(SCHEDULERS), guests=domains)
def test_the_same_seed_gives_the_same_trace(
    seed: int, scheduler: type[Cfs], guests: list[tuple[object, int, int]]
) -> None:
    hashes = set()
    for _ in range(2):
        lab, digest = build(seed, 2, scheduler(), guests, pause=True)
        lab.run_for(40 * MS)
        hashes.add((digest.hexdigest(), lab.engine.fired))
    assert len(hashes) == 1
