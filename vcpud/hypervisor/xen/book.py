"""What the loop's thread knows of one run of a domain on Xen."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from vcpud.counters import VcpuCounters
from vcpud.hypervisor.book import Book
from vcpud.hypervisor.handover import Notepad
from vcpud.hypervisor.link import VcpuWord
from vcpud.hypervisor.view import NO_VIEW
from vcpud.hypervisor.xen.library import TAKEN_AT
from vcpud.hypervisor.xml import AgentPort
from vcpud.model import Method, Mode, ShareUnit
from vcpud.waiting import Wait, counted, sampled, told_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from vcpud.counters import VcpuSample
    from vcpud.hypervisor.describer import Facts
    from vcpud.hypervisor.link import VcpuState
    from vcpud.hypervisor.view import View
    from vcpud.hypervisor.xen.gate import Route
    from vcpud.hypervisor.xen.reports import Listening
    from vcpud.hypervisor.xen.roll import Roll
    from vcpud.model import DomainSample, Uuid

PER_VCPU: Final = frozenset({"credit", "credit2"})
"""Schedulers whose weight counts for each vCPU, credit since Xen 4.1."""
FULLY_VIRTUAL: Final = "hvm"


class XenBook(Book):
    """One run of one domain: from its start, or from our first look, to its end."""

    __slots__ = ("_roll", "_route", "_waits", "listening", "notepad")

    def __init__(
        self,
        uuid: Uuid,
        facts: Facts,
        touched: set[Book],
        *,
        roll: Roll,
        route: Callable[[], Route],
    ) -> None:
        """Open a book.

        Args:
            uuid: Whose.
            facts: As first described.
            touched: Where a book notes itself when its last sample is no longer true.
            roll: Who is online, and how domains are weighed.
            route: How vCPU counts can be set on this host.
        """
        self._roll = roll
        self._route = route
        self._waits: dict[int, Wait] = {}
        self.listening: Listening | None = None
        self.notepad = Notepad()
        super().__init__(uuid, facts, touched)
        self.incarnation = str(self.number)  # Xen gives every run of a domain an id of its own

    # ------------------------------------------------------------------ what comes in

    def count(self, raw: dict[str, Any], taken_at_ns: int) -> None:
        """A row of counters: run times as they are, waits as they are estimated."""
        at_ns = int(raw.get(TAKEN_AT, taken_at_ns))
        super().count(raw, at_ns)
        if self.counters is None or self.counters.vcpus is not self.vcpus:
            return
        online = self._roll.online(self.number)
        self.vcpus = VcpuCounters.of(
            self._waited(vcpu, at_ns, online=self.running and vcpu.index in online)
            for vcpu in self.counters.vcpus
        )

    def looked(self, states: tuple[VcpuState, ...], at_ns: int) -> None:
        """A look at what its vCPUs were doing."""
        for state in states:
            wait = self._waits.get(state.number)
            if wait is not None and wait.at_ns is not None:
                blocked = state.word is VcpuWord.BLOCKED
                self._waits[state.number] = sampled(wait, blocked=blocked, at_ns=at_ns)

    def _waited(self, vcpu: VcpuSample, at_ns: int, *, online: bool) -> VcpuSample:
        if vcpu.run_ns is None:
            return vcpu
        wait = counted(
            self._waits.get(vcpu.index, Wait()), run_ns=vcpu.run_ns, at_ns=at_ns, online=online
        )
        self._waits[vcpu.index] = wait
        told = told_at(wait, at_ns)
        if told is None:
            return vcpu
        delay_ns, error_ns = told
        return dataclasses.replace(vcpu, run_delay_ns=delay_ns, run_delay_error_ns=error_ns)

    # ------------------------------------------------------------------ what is known

    @property
    def view(self) -> View:
        """What its guest publishes."""
        return self.listening.view if self.listening is not None else NO_VIEW

    @property
    def note_failure(self) -> str:
        return self.notepad.failure

    @property
    def libvirt_count(self) -> int:
        """What libvirt asked for last, or what the domain was created with."""
        return self._roll.libvirt_count(self.number)

    @property
    def can_shrink(self) -> bool:
        """Whether its kind of guest follows xenstore."""
        description = self.facts.description
        return description is not None and description.os_type != FULLY_VIRTUAL

    @property
    def irreversible(self) -> bool:
        """Whether vCPUs taken from it could not be given back."""
        route = self._route()
        return route.needs_xl(self.live_vcpus, self.libvirt_count) and not route.by_xl

    @property
    def gap(self) -> frozenset[int]:
        """Below its highest vCPU online, those that are not: a number cannot say which.

        Who asks for fewer would have the wrong ones taken, and could not ask for these back.
        """
        online = self._roll.online(self.number)
        return frozenset(range(max(online, default=0))) - online

    @property
    def share_unit(self) -> ShareUnit:
        """What its weight counts."""
        weighing = self._roll.weighing(self.number)
        if weighing is None or weighing.weight is None or weighing.scheduler not in PER_VCPU:
            return ShareUnit.UNKNOWN
        return ShareUnit.VCPU

    def method(self, now_ns: int) -> Method:  # noqa: ARG002  no agent that may come late
        """The best rung of the ladder."""
        description = self.facts.description
        if description is None or self.max_vcpus == 1:
            return Method.NONE
        if self.can_shrink and not self.irreversible:
            return Method.XENSTORE
        return Method.GROW_ONLY if self.max_vcpus > self.live_vcpus else Method.NONE

    @property
    def wants_report(self) -> bool:
        """Whether what its guest publishes should be read now."""
        asked = self.terms.mode is Mode.ENFORCE or self.terms.guest_signals
        return asked and self.running and self.terms.mode is not Mode.OFF

    # ------------------------------------------------------------------ what goes out

    def make_sample(self, now_ns: int, boot_grace_ns: int, boot_id: str = "") -> DomainSample:
        """The domain as the loop sees it."""
        heard = self.listening is not None and self.listening.heard
        self.agent = AgentPort.CONNECTED if heard else AgentPort.ABSENT
        unit = self.share_unit
        self.sample = dataclasses.replace(
            super().make_sample(now_ns, boot_grace_ns, boot_id),
            share_unit=unit,
            weight_adjustable=unit is ShareUnit.VCPU,
        )
        return self.sample
