"""What hypervisor schedulers share: hooks that most leave empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcpud_simulator.entities import Dispatch, Domain, Pcpu, Vcpu
    from vcpud_simulator.host import Host


class BaseScheduler:
    """A scheduler without ticks, accounting or weights; `wake` and `schedule` make it one."""

    name = "base"
    tick_ns = 0
    ticks_when_idle = False
    ticks_together = False
    accounting_ns = 0
    balance_ns = 0
    weight_per_domain = False
    keeps_caps = False

    host: Host

    def attach(self, host: Host) -> None:
        self.host = host

    def insert(self, vcpu: Vcpu, now_ns: int) -> None:
        """Nothing to prepare."""

    def wake(self, vcpu: Vcpu, now_ns: int) -> None:
        raise NotImplementedError

    def sleep(self, vcpu: Vcpu, now_ns: int) -> None:
        """Nothing to forget."""

    def yield_(self, vcpu: Vcpu, now_ns: int) -> None:
        """The decision that follows is all there is."""

    def yield_to(self, vcpu: Vcpu, target: Vcpu, now_ns: int) -> bool:  # noqa: ARG002
        """There is no directed yield."""
        return False

    def adjust(self, domain: Domain, now_ns: int) -> None:
        """Weights are read when they are needed."""

    def schedule(self, pcpu: Pcpu, now_ns: int) -> Dispatch:
        raise NotImplementedError

    def tick(self, pcpu: Pcpu, now_ns: int) -> None:
        """No tick is asked for."""

    def account(self, now_ns: int) -> None:
        """No accounting is asked for."""
