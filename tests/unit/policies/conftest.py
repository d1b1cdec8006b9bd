"""Hosts and their domains as a policy is told of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import pytest

from vcpud.demand import DomainDemand, HostDemand, PoolDemand, Progress
from vcpud.model import Method, Mode
from vcpud.plan import Plan
from vcpud.policy import Policy
from vcpud.units import NS_PER_S

MakeDomain: TypeAlias = Callable[..., DomainDemand]
MakeHost: TypeAlias = Callable[..., HostDemand]
Decide: TypeAlias = Callable[..., Plan]


def window(second: int, rate: float = 1.0) -> Progress:
    """What a domain of eight vCPUs made of five seconds, of which half was worth something."""
    return Progress(
        began_at_ns=second * NS_PER_S,
        ended_at_ns=(second + 5) * NS_PER_S,
        rate_pcpus=rate,
        active_vcpus=8,
        worth_ratio=0.5,
    )


@pytest.fixture
def domain() -> MakeDomain:
    """A domain of eight vCPUs that could be managed."""
    made = DomainDemand(
        uuid="u",
        name="n",
        mode=Mode.ENFORCE,
        pool="host",
        weight=1,
        active_vcpus=8,
        min_vcpus=1,
        max_vcpus=8,
        method=Method.AGENT,
        used_pcpus=4.0,
        run_delay_pcpus=0.0,
        entitled_pcpus=4.0,
    )
    return lambda **more: replace(made, **more)


@pytest.fixture
def host() -> MakeHost:
    """A host of eight pCPUs with these domains."""

    def make(*domains: DomainDemand, pcpus: int = 8) -> HostDemand:
        active = sum(d.active_vcpus for d in domains)
        pool = PoolDemand(
            name="host",
            pcpus=pcpus,
            available_pcpus=float(pcpus),
            active_vcpus=active,
            overcommit_ratio=active / pcpus,
            run_delay_ratio=None,
        )
        return HostDemand(window_ns=NS_PER_S, pools=(pool,), domains=domains)

    return make


@pytest.fixture
def decide() -> Decide:
    """One decision a second on each demand in turn; the last plan."""

    def run(policy: Policy[Any], *demands: HostDemand) -> Plan:
        state, plan = policy.initial(), Plan()
        for second, demand in enumerate(demands):
            state, plan = policy.decide(state, demand, (), second * NS_PER_S)
        return plan

    return run
