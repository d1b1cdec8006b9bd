"""Policies that plan what a test says, under the loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fakes.host import FakeDomain
from unit.loop.test_control import Rig
from vcpud.demand import HostDemand
from vcpud.plan import Move, Plan, Proof, Resize, Verdict


class Scripted:
    """Brings its domains to `to_vcpus`, once, in one move."""

    def __init__(self, *uuids: str) -> None:
        self.uuids = uuids
        self.to_vcpus: int | None = None

    def initial(self) -> None:
        return None

    def decide(
        self,
        state: None,
        demand: HostDemand,
        verdicts: tuple[Verdict, ...],
        now_ns: int,
    ) -> tuple[None, Plan]:
        del state, verdicts, now_ns
        if self.to_vcpus is None:
            return None, Plan()
        there = {domain.uuid: domain.active_vcpus for domain in demand.domains}
        resizes = tuple(
            Resize(uuid=uuid, from_vcpus=there[uuid], to_vcpus=self.to_vcpus, step_vcpus=3)
            for uuid in self.uuids
        )
        self.to_vcpus = None
        return None, Plan(moves=(Move(resizes=resizes, reason="scripted"),))


class Wants:
    """A policy that wants these numbers of vCPUs, whatever is seen."""

    def __init__(self, wanted: Mapping[str, int]) -> None:
        self.wanted = wanted

    def initial(self) -> None:
        return None

    def decide(
        self, state: None, demand: HostDemand, verdicts: tuple[Verdict, ...], now_ns: int
    ) -> tuple[None, Plan]:
        del verdicts, now_ns
        return state, Plan(
            moves=tuple(
                Move(
                    resizes=(
                        Resize(
                            uuid=domain.uuid,
                            from_vcpus=domain.active_vcpus,
                            to_vcpus=self.wanted[domain.uuid],
                            step_vcpus=4,
                        ),
                    ),
                    reason="as told",
                    proof=Proof.NONE,
                )
                for domain in demand.domains
                if domain.engaged is None
                and self.wanted.get(domain.uuid, domain.active_vcpus) != domain.active_vcpus
            )
        )


def scripted(*domains: FakeDomain) -> tuple[Rig, Scripted]:
    rig = Rig(*domains)
    policy = Scripted(*(domain.uuid for domain in domains))
    rig.settings = replace(rig.settings, policy=policy, policy_name="scripted")
    rig.loop = rig.new_loop()
    rig.cycles(10)
    return rig, policy
