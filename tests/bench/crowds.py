"""Hosts full of domains, and what a decision about them costs."""

from __future__ import annotations

import gc
import random
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any, Final

from vcpud.demand import DomainDemand, HostDemand, PoolDemand, Progress
from vcpud.model import Method, Mode
from vcpud.policy import Policy
from vcpud.units import NS_PER_S

VCPUS: Final = 8
DOMAINS_A_POOL: Final = 50
ROUNDS: Final = 15
"""Decisions in a row: a policy with patience decides nothing in the first few."""


def crowd(domains: int, second: int) -> HostDemand:
    """Pools of fifty domains, twice overcommitted; every third guest waits for locks."""
    chance = random.Random(1)  # noqa: S311 - a made-up host
    now_ns = (1000 + second) * NS_PER_S
    found = []
    for number in range(domains):
        locks = number % 3 == 0
        found.append(
            DomainDemand(
                uuid=f"{number:032x}",
                name=f"domain-{number}",
                mode=Mode.ENFORCE,
                pool=f"pool-{number // DOMAINS_A_POOL}",
                weight=chance.choice([512, 1024, 2048]),
                active_vcpus=VCPUS,
                min_vcpus=1,
                max_vcpus=VCPUS,
                method=Method.AGENT,
                used_pcpus=4.0 + chance.uniform(-0.1, 0.1),
                run_delay_pcpus=4.0,
                entitled_pcpus=4.0,
                lock_wait_ratio=0.8 if locks else 0.01,
                lock_wait_at_ns=now_ns,
                queued_tasks=0.0,
                runnable_tasks=8.0,
                system_ratio=0.8 if locks else 0.02,
                progress=Progress(
                    began_at_ns=now_ns - 5 * NS_PER_S,
                    ended_at_ns=now_ns,
                    rate_pcpus=0.4 if locks else 3.9,
                    active_vcpus=VCPUS,
                    worth_ratio=0.1 if locks else 0.98,
                ),
            )
        )
    names_of_pools = sorted({domain.pool for domain in found})
    pools = tuple(
        PoolDemand(
            name=name,
            pcpus=DOMAINS_A_POOL * VCPUS // 2,
            available_pcpus=DOMAINS_A_POOL * VCPUS / 2,
            active_vcpus=DOMAINS_A_POOL * VCPUS,
            overcommit_ratio=2.0,
            run_delay_ratio=0.5,
        )
        for name in names_of_pools
    )
    return HostDemand(window_ns=NS_PER_S, pools=pools, domains=tuple(found))


def one_pool(demand: HostDemand) -> HostDemand:
    """The same crowd in a single pool: the dearest case of apportionment."""
    domains = tuple(replace(domain, pool="host") for domain in demand.domains)
    active = sum(domain.active_vcpus for domain in domains)
    pool = PoolDemand(
        name="host",
        pcpus=active // 2,
        available_pcpus=active / 2,
        active_vcpus=active,
        overcommit_ratio=2.0,
        run_delay_ratio=0.5,
    )
    return replace(demand, pools=(pool,), domains=domains)


def cost(policy: Policy[Any], demands: Sequence[HostDemand]) -> dict[str, float]:
    """Seconds of the median and of the dearest decision, and the most memory that one takes."""
    state, seconds, moves = policy.initial(), [], 0
    for place, demand in enumerate(demands):
        gc.collect()
        began = time.process_time()
        state, plan = policy.decide(state, demand, (), (1000 + place) * NS_PER_S)
        seconds.append(time.process_time() - began)
        moves += len(plan.moves)
    tracemalloc.start()
    policy.decide(state, demands[-1], (), (1000 + len(demands)) * NS_PER_S)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "median_seconds": median(seconds),
        "most_seconds": max(seconds),
        "peak_bytes": float(most),
        "moves": float(moves),
    }
