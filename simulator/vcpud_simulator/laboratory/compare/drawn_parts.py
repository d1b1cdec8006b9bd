"""How drawn hosts and guests are set up: knobs of schedulers, costs, guest kernels, bad signals.

Ranges are those that documentation names or that distributions ship; figures of cost are half to
twice what the model takes from measurements: an older machine, or a newer one.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from vcpud.units import NS_PER_MS, NS_PER_S, NS_PER_US
from vcpud_simulator.guest.costs import GuestConfig
from vcpud_simulator.guest.hotplug import HotplugCosts
from vcpud_simulator.host import HostCosts
from vcpud_simulator.platform import GUEST_SIGNALS, PLATFORMS, Signal
from vcpud_simulator.rng import Stream
from vcpud_simulator.scenario import ActuationPlan, SignalPlan, SignalsPlan

Choices = Mapping[str, tuple[Any, ...]]

_TICKS: Final = (NS_PER_MS, 4 * NS_PER_MS, 10 * NS_PER_MS)
"""CONFIG_HZ of 1000 (RHEL, Ubuntu since 24.10), 250 (Debian) and 100 (some server kernels)."""
_FAIR: Final[Choices] = {"tick_ns": _TICKS, "wake_affine": (False, True)}
_ESX: Final[Choices] = {
    # Cpu.Quantum of ESX 2 to 4 and of ESXi.
    "quantum_ns": (50 * NS_PER_MS, 200 * NS_PER_MS),
    # Cpu.CoschedCostopThreshold, CoschedCostartThreshold (never larger) and CoschedPollUsec.
    "costop_ns": (3 * NS_PER_MS, 6 * NS_PER_MS),
    "costart_ns": (NS_PER_MS, 2 * NS_PER_MS),
    "poll_ns": (NS_PER_MS, 2 * NS_PER_MS),
}
_KNOBS: Final[Mapping[str, Choices]] = {
    "credit_xen32": {},  # compiled in
    "credit": {
        # sched_credit_tslice_ms: 1 to 1000, 30 by default, 1 to 10 where latency matters.
        "slice_ns": tuple(one * NS_PER_MS for one in (1, 5, 10, 30)),
        # sched_ratelimit_us: 0, or 100 to 500,000; no larger than the slice. 1000 by default.
        "ratelimit_ns": tuple(one * NS_PER_US for one in (0, 100, 1_000)),
        # CSCHED_DEFAULT_LOAD_BALANCE_RATELIMIT_US: 1000; 0 is what Xen did before it had one.
        "balance_ratelimit_ns": tuple(one * NS_PER_US for one in (0, 1_000, 10_000)),
    },
    "credit2": {
        "ratelimit_ns": tuple(one * NS_PER_US for one in (0, 100, 1_000, 5_000)),
        # credit2_runqueue=core and socket, sched_credit2_max_cpus_runqueue (16 by default).
        "pcpus_per_queue": (2, 4, 8, 16),
        # sched_credit2_migrate_resist: 500 us by default.
        "migrate_resist_ns": tuple(one * NS_PER_US for one in (0, 500, 1_000)),
    },
    "esx_strict": _ESX,
    "esx_relaxed_3x": _ESX,
    "esx_relaxed": _ESX,
    "cfs": _FAIR,
    "cfs_groups": _FAIR,
    "cfs_balance": _FAIR,
    "eevdf": {
        **_FAIR,
        # base_slice_ns: 0.70 ms, 0.75 ms before 2025, 3 ms scaled by hand; debugfs takes 0.1 ms to 1 s.
        "base_slice_ns": tuple(one * NS_PER_US for one in (400, 700, 750, 3_000)),
        # sched_features RUN_TO_PARITY and PLACE_LAG.
        "run_to_parity": (True, False),
        "place_lag": (True, False),
    },
}
_GUEST: Final[Choices] = {
    "hz": (100, 250, 1_000),
    "nohz_idle": (True, False),  # nohz=off
    "steal_clock": (True, False),  # kernels without one, Windows
    # sched_latency_ns and the rest: as shipped, and tuned's throughput-performance.
    "latency_ns": (6 * NS_PER_MS, 24 * NS_PER_MS),
    "min_granularity_ns": (750 * NS_PER_US, 3 * NS_PER_MS, 10 * NS_PER_MS),
    "wakeup_granularity_ns": (NS_PER_MS, 4 * NS_PER_MS, 15 * NS_PER_MS),
    # sd->balance_interval of 1 to 4 ms times busy_factor 16.
    "balance_ns": (16 * NS_PER_MS, 32 * NS_PER_MS, 64 * NS_PER_MS),
    # None, to load 32 KiB, and 1 MiB, from memory.
    "refill_ns": (0, 10 * NS_PER_US, 300 * NS_PER_US),
}
_MONITOR: Final[Choices] = {"monitor_ratio": (0.02, 0.04, 0.1)}
"""Binary translation and shadow page tables."""
_KNOWN: Final = {*_GUEST, *_MONITOR, "batch_locks"}
_HOST_SIGNALS: Final = tuple(one for one in Signal if one not in GUEST_SIGNALS)


def scheduler_options(scheduler: str, chance: Stream) -> dict[str, Any]:
    """What its operator changed: nothing, on one host in two."""
    if chance.below(2):
        return {}
    knobs = _KNOBS["eevdf" if scheduler.startswith("eevdf") else scheduler]
    found = _chosen(knobs, chance)
    if "slice_ns" in found:
        found["ratelimit_ns"] = min(found["ratelimit_ns"], found["slice_ns"])
    return found


def costs(chance: Stream) -> dict[str, Any]:
    """What hypervisor and hotplug cost: as measured, on one host in two."""
    if chance.below(2):
        return {}
    return _scaled(HostCosts(), chance) | _scaled(HotplugCosts(), chance)


def guest(platform: str, scheduler: str, chance: Stream) -> dict[str, Any]:
    """How one guest's kernel is set up: as shipped, in one of two."""
    if chance.below(2):
        return {}
    kernel = GuestConfig(**PLATFORMS[platform].guest)
    found = _chosen(_GUEST, chance) | _scaled(kernel, chance)
    found["steal_clock"] = found["steal_clock"] and kernel.steal_clock
    if scheduler.startswith("esx"):
        found |= _chosen(_MONITOR, chance)
    return found


def _chosen(choices: Choices, chance: Stream) -> dict[str, Any]:
    return {name: chance.choose(those) for name, those in choices.items()}


def _scaled(plan: Any, chance: Stream) -> dict[str, Any]:
    """Half to twice of each figure that is a cost."""
    return {
        item.name: round(getattr(plan, item.name) * 2.0 ** (2 * chance.unit() - 1))
        for item in fields(plan)
        if item.name not in _KNOWN
    }


def actuation(chance: Stream) -> ActuationPlan:
    """Changes that come late, that fail, or of which it is said falsely that they failed."""
    return ActuationPlan(
        latency_ns=chance.below(10) * NS_PER_S,
        failure_ratio=chance.choose((0.0, 0.1, 0.3)),
        lost_answer_ratio=chance.choose((0.0, 0.1, 0.3)),
    )


def signals(chance: Stream) -> SignalsPlan:
    """How often guests are asked, and on one host in six what is wrong with what is read.

    As often as vcpud ships, or less often: every 2 s is 2 to 3 % of what a guest makes that has a
    tenth of a pCPU for each vCPU, whatever the policy. The host's own counters are exact; they can be
    late, old or lost, never noisy.
    """
    agent_period_ns = chance.choose((5, 5, 5, 8, 10)) * NS_PER_S
    if chance.below(6):
        return SignalsPlan(agent_period_ns=agent_period_ns)
    of_guest = chance.below(3) > 0
    bad = (
        SignalPlan(latency_ns=(1 + chance.below(4)) * NS_PER_S),
        SignalPlan(staleness_ns=(2 + chance.below(14)) * NS_PER_S),
        SignalPlan(loss_ratio=0.1 + 0.3 * chance.unit()),
        *((SignalPlan(noise_ratio=0.02 + 0.1 * chance.unit()),) if of_guest else ()),
    )
    plan = chance.choose(bad)
    which = GUEST_SIGNALS if of_guest else _HOST_SIGNALS
    return SignalsPlan(agent_period_ns=agent_period_ns, **{one.value: plan for one in which})


def loses(plan: SignalsPlan) -> bool:
    """Whether some readings never come."""
    return any(plan.of(one).loss_ratio for one in Signal)
