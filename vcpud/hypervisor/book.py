"""What the loop's thread knows of one run of a domain."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from vcpud.counters import NO_COUNTERS
from vcpud.hypervisor.conversation import Conversation
from vcpud.hypervisor.sample import sample_of
from vcpud.hypervisor.stats import Counters, RunState, parse_counters
from vcpud.hypervisor.view import NO_VIEW, View
from vcpud.hypervisor.xml import AgentPort, Note
from vcpud.model import (
    UNKNOWN_START,
    Change,
    DomainSample,
    Method,
    Mode,
    Original,
    SetLive,
    SetOnline,
    Terms,
)
from vcpud.units import NS_PER_S

if TYPE_CHECKING:
    from vcpud.hypervisor.describer import Facts
    from vcpud.hypervisor.pools import Membership
    from vcpud.model import Uuid
    from vcpud.terms import TermsBook

UNPLUG_PENDING_NS: Final = 60 * NS_PER_S
"""An unplug the guest has not carried out by then will not come any more."""
ONE_RESET_NS: Final = 3 * NS_PER_S
AGENT_EXPECTED_NS: Final = 60 * NS_PER_S
"""A guest that has a channel for its agent starts it within so long after booting."""


class Book:
    """One run of one domain: from its start, or from our first look, to its end."""

    __slots__ = (
        "_touched",
        "_unplug_emulated",
        "agent",
        "begun",
        "booted_at_ns",
        "boots",
        "conversation",
        "counters",
        "facts",
        "hung",
        "in_flight",
        "incarnation",
        "job",
        "job_told",
        "left_at_ns",
        "left_live",
        "left_online",
        "membership",
        "number",
        "over",
        "raw",
        "reset_at_ns",
        "running",
        "sample",
        "slow",
        "taken_at_ns",
        "terms",
        "terms_error",
        "tidying",
        "unplug_asked_at_ns",
        "unplug_from",
        "uuid",
        "vcpus",
    )

    def __init__(
        self, uuid: Uuid, facts: Facts, touched: set[Book], *, unplug_emulated: bool = False
    ) -> None:
        """Open a book; libvirt's id and the start of its QEMU name this run of the domain.

        Args:
            uuid: Whose.
            facts: As first described.
            touched: Where a book notes itself when its last sample is no longer true.
            unplug_emulated: See `LibvirtOptions`.
        """
        self.uuid = uuid
        self._touched = touched
        self.number = facts.number
        self.over = False
        """Set once when this run has ended; read by whoever is still busy with it."""
        self.facts = facts
        self.raw: dict[str, Any] | None = None
        self.counters: Counters | None = None
        self.vcpus = NO_COUNTERS
        self.taken_at_ns = facts.taken_at_ns
        self.terms = Terms()
        self.terms_error: str | None = None
        self.membership: Membership | None = None
        self.conversation: Conversation | None = None
        self.agent = _port(facts)
        self.boots = 0
        self.reset_at_ns: int | None = None
        self.booted_at_ns = _started_at_ns(facts)
        start = UNKNOWN_START if facts.process is None else facts.process.start_ticks
        # Given once: a process that can only be read later makes no other run of it.
        self.incarnation = f"{self.number}:{start}"
        self.job: str | None = None
        self.job_told = False
        self.in_flight: Change | None = None
        self.begun = 0
        self.left_online: frozenset[int] | None = None
        self.left_live: int | None = None
        self.left_at_ns = 0
        self.tidying = False
        self.unplug_asked_at_ns: int | None = None
        self.unplug_from = 0
        self._unplug_emulated = unplug_emulated
        self.hung = False
        self.slow = False
        self.running = False
        self.sample: DomainSample | None = None
        self.touch()

    def touch(self) -> None:
        """Something has changed: the next sample is made anew."""
        self._touched.add(self)

    # ------------------------------------------------------------------ what comes in

    def is_of(self, facts: Facts) -> bool:
        """Whether these are facts of the same run: libvirt gives an id anew after its restart."""
        known, told = self.facts.process, facts.process
        return facts.number == self.number and (
            known is None or told is None or known.start_ticks == told.start_ticks
        )

    def describe(self, facts: Facts) -> None:
        """Newly asked facts of the same run, whose process may not have been found this time."""
        known = self.facts
        if facts.process is None:
            facts = replace(facts, process=known.process, share_unit=known.share_unit)
        elif known.process is None and self.booted_at_ns is None:
            self.booted_at_ns = _started_at_ns(facts)
        self.facts = facts
        self.agent = _port(facts)
        self.tidying = False
        self.touch()

    def agree(self, book: TermsBook) -> None:
        """What the operator and the domain's own metadata allow."""
        description = self.facts.description
        wishes = description.wishes if description is not None else None
        self.terms = book.terms(self.uuid, self.facts.name, wishes)
        self.terms_error = None
        if description is None:
            self.terms_error = f"its description cannot be read: {self.facts.error}"
        elif book.metadata and description.wishes_error and self.terms.mode is not Mode.OFF:
            self.terms_error = f"its metadata is invalid: {description.wishes_error}"
        if self.terms_error is not None:
            self.terms = Terms(mode=Mode.OFF, source=self.terms_error)
        self.touch()

    def count(self, raw: dict[str, Any], taken_at_ns: int) -> None:
        """A row of the bulk statistics."""
        counters = parse_counters(raw)
        self.raw = raw
        if counters.vcpus or counters.live_vcpus is not None or self.counters is None:
            self.counters = counters
            self.vcpus = counters.vcpus
            self.taken_at_ns = taken_at_ns
        elif counters.state is not self.counters.state:
            # States only: the counters stay as they were, with their own time.
            self.counters = replace(
                self.counters, state=counters.state, troubles=counters.troubles
            )
        self.running = counters.state is RunState.RUNNING
        live = self.live_vcpus
        if self.unplug_asked_at_ns is not None and live < self.unplug_from:
            self.unplug_asked_at_ns = None  # it has been carried out after all
        self.touch()

    def rebooted(self, now_ns: int) -> bool:
        """The guest began anew inside the same QEMU, with every CPU online.

        Returns:
            False for the further events that one reset of a machine can cause.
        """
        if self.reset_at_ns is not None and now_ns - self.reset_at_ns < ONE_RESET_NS:
            return False
        self.reset_at_ns = now_ns
        self.boots += 1
        self.left(None, now_ns)
        self.booted_at_ns = now_ns
        if self.conversation is not None:
            self.conversation.renew(rebooted=True)
        self.touch()
        return True

    def left(self, change: SetLive | SetOnline | None, at_ns: int) -> None:
        """A change was reached, or another has begun: with what vcpud has left it."""
        self.left_at_ns = at_ns
        self.left_online = change.online if isinstance(change, SetOnline) else None
        self.left_live = change.count if isinstance(change, SetLive) else None

    @property
    def rebooted_unheard_at_ns(self) -> int | None:
        """When its guest was first heard after a reboot that nobody told of; None without one.

        A guest's word alone costs nobody a vCPU: it must have all of them, as after a boot.
        """
        first = self.view.first_of_kernel
        if first is None or first.taken_at_ns <= (self.reset_at_ns or 0):
            return None
        return first.taken_at_ns if len(first.online) >= self.live_vcpus else None

    # ------------------------------------------------------------------ what is known

    @property
    def view(self) -> View:
        """What its agent told."""
        return self.conversation.view if self.conversation is not None else NO_VIEW

    @property
    def live_vcpus(self) -> int:
        """vCPUs present, by the freshest account."""
        if self.counters is not None and self.counters.live_vcpus is not None:
            return self.counters.live_vcpus
        return self.facts.description.live_vcpus if self.facts.description is not None else 1

    @property
    def max_vcpus(self) -> int:
        """The domain's own maximum."""
        if self.facts.description is not None:
            return self.facts.description.max_vcpus
        reported = self.counters.max_vcpus if self.counters is not None else None
        return max(reported or 1, self.live_vcpus)

    @property
    def note(self) -> Note | None:
        """What is written down in its metadata that it is owed."""
        return self.facts.description.note if self.facts.description is not None else None

    @property
    def note_is_settled(self) -> bool:
        """Whether the guest, asked since the note was seen, is owed nothing by it any more.

        It has all that the note says, or somebody else has brought vCPUs back and so set the size.
        """
        note, view = self.note, self.view
        if note is not None and note.online is None:
            return self._count_is_settled(note)
        if note is None or note.online is None or view.online is None:
            return False
        if (view.online_taken_at_ns or 0) <= self.facts.taken_at_ns:
            return False
        back = view.online - (view.online if self.left_online is None else self.left_online)
        return not note.online.isdisjoint(back) or view.online >= note.online

    def _count_is_settled(self, note: Note) -> bool:
        """The same where vCPUs were taken by their number: described, then counted, after all changes."""
        told = self.left_at_ns < self.facts.taken_at_ns < self.taken_at_ns
        if not told or self.unplug_asked_at_ns is not None:
            return False
        live = self.live_vcpus
        if self.left_live is not None and live > self.left_live:
            return True
        light = note.weight is None or self.facts.scheduling.weight <= note.weight
        return light and live >= note.live_vcpus

    @property
    def note_failure(self) -> str:
        """Why no note could be left, empty when one could."""
        return self.view.note_failure

    def noted(self, boot_id: str, *, own: bool) -> Original | None:
        """What a vcpud of this host wrote down for this run, or what one elsewhere, or before a save, still owed it."""
        note = self.note
        if note is None or note.is_of(boot_id, self.incarnation) is not own:
            return None
        return note.original(self.uuid, self.facts.name)

    def method(self, now_ns: int) -> Method:
        """The best rung of the ladder.

        An agent that has answered, or may still be starting, keeps its rung while it is away: to
        mix CPUs that the guest has offline with devices unplugged would leave nobody sure.
        """
        description = self.facts.description
        if description is None or description.realtime:
            return Method.NONE
        blocked = "guest-set-vcpus" in self.view.disabled
        if self._agent_expected(now_ns) and not blocked and self.max_vcpus > 1:
            return Method.AGENT
        if description.unpluggable and self.has_devices:
            return Method.HOTPLUG
        grows = self.max_vcpus > self.live_vcpus and self.has_devices
        return Method.GROW_ONLY if grows else Method.NONE

    @property
    def has_devices(self) -> bool:
        """Whether vCPUs can be had out and in as devices: under emulation that ends badly.

        Seen with QEMU 7.2: the CPU goes, but DEVICE_DELETED never comes, so libvirt goes on
        counting it; and plugging it in again ends the process.
        """
        description = self.facts.description
        return description is not None and (description.kvm or self._unplug_emulated)

    def _agent_expected(self, now_ns: int) -> bool:
        if self.agent is AgentPort.DISCONNECTED:
            booted_at_ns = self.booted_at_ns
            young = booted_at_ns is not None and now_ns - booted_at_ns < AGENT_EXPECTED_NS
            return young or self.view.online is not None
        return self.agent is AgentPort.CONNECTED

    @property
    def wants_agent(self) -> bool:
        """Whether its agent may and should be asked now."""
        asked = self.terms.mode is Mode.ENFORCE or self.terms.guest_signals
        ready = self.running and self.agent is AgentPort.CONNECTED
        return asked and ready and self.terms.mode is not Mode.OFF

    def unplug_pending(self, now_ns: int) -> bool:
        """Whether the guest may still carry out an unplug that timed out."""
        at_ns = self.unplug_asked_at_ns
        return at_ns is not None and now_ns - at_ns < UNPLUG_PENDING_NS

    # ------------------------------------------------------------------ what goes out

    def make_sample(self, now_ns: int, boot_grace_ns: int, boot_id: str = "") -> DomainSample:
        """The domain as the loop sees it."""
        self.sample = sample_of(self, now_ns, boot_grace_ns, boot_id)
        return self.sample


def _started_at_ns(facts: Facts) -> int | None:
    process = facts.process
    return None if process is None else facts.taken_at_ns - process.age_ns


def _port(facts: Facts) -> AgentPort:
    return facts.description.agent if facts.description is not None else AgentPort.ABSENT
